//! The museum of faults: known bugs, each a set of wrong parts in the place of right ones.

use crate::engine::Engine;
use crate::parts::Parts;

/// A fault: its id, and the swap that plants it.
pub type Fault<E> = (&'static str, fn(&mut Parts<E>));

/// All faults.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![("unseeded-order", |parts| parts.order.epoch = |_, _, _| vec![])]
}
