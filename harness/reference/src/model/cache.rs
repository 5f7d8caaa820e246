//! The key-value cache: per layer one buffer of keys and one of values, allocated at the full width.

use burn::tensor::{Tensor, backend::Backend};

/// Keys and values of the positions seen so far, `[rows, heads, width, d]` per layer.
pub struct Cache<B: Backend> {
    width: usize,
    layers: Vec<Option<(Tensor<B, 4>, Tensor<B, 4>)>>,
}

impl<B: Backend> Cache<B> {
    /// An empty cache for rows of this width.
    pub fn new(layers: usize, width: usize) -> Self {
        Self { width, layers: vec![None; layers] }
    }

    /// Stores the keys and values of the positions from `from` on, and returns those of all positions up to their end.
    pub fn extend(
        &mut self,
        layer: usize,
        from: usize,
        keys: Tensor<B, 4>,
        values: Tensor<B, 4>,
    ) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let [rows, heads, new, d] = keys.dims();
        let device = keys.device();
        let empty = || Tensor::zeros([rows, heads, self.width, d], &device);
        let (stored_keys, stored_values) = self.layers[layer].take().unwrap_or_else(|| (empty(), empty()));
        let place = [0..rows, 0..heads, from..from + new, 0..d];
        let stored_keys = stored_keys.slice_assign(place.clone(), keys);
        let stored_values = stored_values.slice_assign(place, values);
        let seen = [0..rows, 0..heads, 0..from + new, 0..d];
        let so_far = (stored_keys.clone().slice(seen.clone()), stored_values.clone().slice(seen));
        self.layers[layer] = Some((stored_keys, stored_values));
        so_far
    }

    /// The bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        let elements = |tensor: &Tensor<B, 4>| tensor.shape().num_elements() as u64;
        self.layers.iter().flatten().map(|(keys, values)| 4 * (elements(keys) + elements(values))).sum()
    }
}
