//! The example trainer that can all, held to every scenario: each is a test by its own id.

#[path = "../examples/resumable.rs"]
mod resumable;

use resumable::Resumable;

fn main() {
    traintrue::test_main(|| Resumable { restore: |state| state });
}
