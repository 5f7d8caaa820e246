//! Arrays without values: what burn-ndarray's arrays take of the heap, and when they take it.

use std::cell::Cell;
use std::rc::Rc;

/// The bytes of an element; indices have [`INDEX`].
const FLOAT: u64 = 4;
const INDEX: u64 = 8;
/// What ndarray holds of a shared array beside its elements: two counts and a vector's three words.
const HEADER_BYTES: u64 = 40;

/// Bytes that are held, and the most that were.
#[derive(Clone, Default)]
pub struct Heap(Rc<Held>);

#[derive(Default)]
struct Held {
    now: Cell<u64>,
    peak: Cell<u64>,
}

impl Heap {
    /// Holds so many bytes until the block is dropped.
    pub fn hold(&self, bytes: u64) -> Block {
        self.0.now.set(self.0.now.get() + bytes);
        self.0.peak.set(self.0.peak.get().max(self.0.now.get()));
        Block { heap: self.clone(), bytes }
    }

    /// The most that was held.
    pub fn peak_bytes(&self) -> u64 {
        self.0.peak.get()
    }
}

/// Bytes that are held.
pub struct Block {
    heap: Heap,
    bytes: u64,
}

impl Drop for Block {
    fn drop(&mut self) {
        let now = &self.heap.0.now;
        now.set(now.get() - self.bytes);
    }
}

/// A shape over a shared block. As in ndarray, a clone shares, and who alone holds a block may write into it.
#[derive(Clone)]
pub struct Array {
    /// Its extents.
    pub shape: Vec<usize>,
    block: Rc<Block>,
}

impl Array {
    /// A new array of floats.
    pub fn new(heap: &Heap, shape: &[usize]) -> Self {
        Self::of(heap, shape, FLOAT)
    }

    /// A new array of indices.
    pub fn indices(heap: &Heap, shape: &[usize]) -> Self {
        Self::of(heap, shape, INDEX)
    }

    fn of(heap: &Heap, shape: &[usize], width: u64) -> Self {
        let elements: usize = shape.iter().product();
        Self { shape: shape.to_vec(), block: Rc::new(heap.hold(elements as u64 * width + HEADER_BYTES)) }
    }

    /// A new array in the same heap.
    pub fn fresh(&self, shape: &[usize]) -> Self {
        Self::new(&self.block.heap, shape)
    }

    /// Itself where nobody else holds it, else a copy: an operation in place (`mapv_into`, `lhs * rhs`).
    pub fn in_place(self) -> Self {
        if Rc::strong_count(&self.block) == 1 { self } else { self.fresh(&self.shape) }
    }

    /// A copy in another shape: burn-ndarray's `reshape` never shares.
    pub fn reshape(self, shape: &[usize]) -> Self {
        self.fresh(shape)
    }

    /// The same block with two dimensions swapped.
    pub fn swap(mut self, one: usize, other: usize) -> Self {
        self.shape.swap(one, other);
        self
    }

    /// The last two dimensions swapped.
    pub fn transpose(self) -> Self {
        let last = self.shape.len() - 1;
        self.swap(last - 1, last)
    }

    /// `lhs + rhs` makes a new array, whoever holds the two.
    pub fn add(self, other: Self) -> Self {
        self.fresh(&broadcast(&self.shape, &other.shape))
    }

    /// Copies both operands, multiplies into a new array, and copies that.
    pub fn matmul(self, other: Self) -> Self {
        let [rows, inner] = self.matrix();
        let [_, columns] = other.matrix();
        let mut shape = self.shape.clone();
        shape[self.shape.len() - 1] = columns;
        let (lhs, rhs) = (self.copy(), other.copy());
        let product = lhs.fresh(&shape);
        drop(product.block.heap.hold(packed_bytes(rows, inner, columns)));
        let copy = product.copy();
        drop((lhs, rhs));
        copy
    }

    /// Its last two extents.
    fn matrix(&self) -> [usize; 2] {
        let at = self.shape.len() - 2;
        [self.shape[at], self.shape[at + 1]]
    }

    /// A copy.
    pub fn copy(self) -> Self {
        self.fresh(&self.shape)
    }

    /// One dimension summed to 1, and copied to keep the rank.
    pub fn sum(self, dim: usize) -> Self {
        let mut shape = self.shape.clone();
        shape[dim] = 1;
        self.fresh(&shape).copy()
    }

    /// Gathers along the last dimension: the array and its indices are copied first.
    pub fn gather(self) -> Self {
        let mut shape = self.shape.clone();
        *shape.last_mut().unwrap_or(&mut 1) = 1;
        let indices = Self::indices(&self.block.heap, &shape);
        let copy = self.copy();
        drop(indices);
        copy.fresh(&shape)
    }

    /// Adds values into the places of a gather: the array is copied twice.
    pub fn scatter(self) -> Self {
        self.copy().copy()
    }

    /// Sums the dimensions that were broadcast from `shape`.
    pub fn unbroadcast(self, shape: &[usize]) -> Self {
        (0..shape.len()).fold(self, |sum, dim| if sum.shape[dim] == shape[dim] { sum } else { sum.sum(dim) })
    }
}

/// What a product of matrices packs of its operands: blocks of matrixmultiply's extents for f32.
fn packed_bytes(rows: usize, inner: usize, columns: usize) -> u64 {
    const ROWS: usize = 64;
    const INNER: usize = 256;
    const COLUMNS: usize = 1024;
    /// Panels are whole vectors.
    const LANES: usize = 8;
    let whole = |extent: usize, most: usize| extent.min(most).next_multiple_of(LANES);
    (inner.min(INNER) * (whole(rows, ROWS) + whole(columns, COLUMNS))) as u64 * FLOAT
}

/// The shape of two arrays together.
pub fn broadcast(one: &[usize], other: &[usize]) -> Vec<usize> {
    one.iter().zip(other).map(|(a, b)| *a.max(b)).collect()
}
