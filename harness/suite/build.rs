//! A scenario or a Python file that is added or removed must reach the binary, and `include_dir` alone does not notice it.

fn main() {
    println!("cargo:rerun-if-changed=scenarios");
    println!("cargo:rerun-if-changed=python");
    println!("cargo:rerun-if-changed=build.rs");
}
