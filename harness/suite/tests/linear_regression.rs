//! The smallest example trainer, held to every scenario: each is a test by its own id.

use std::hash::{BuildHasherDefault, DefaultHasher};

#[path = "../examples/linear_regression.rs"]
mod linear_regression;

use linear_regression::LinearRegression;

fn main() {
    traintrue::test_main(LinearRegression::<BuildHasherDefault<DefaultHasher>>::default);
}
