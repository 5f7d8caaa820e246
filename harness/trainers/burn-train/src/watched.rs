//! burn's AdamW, and beside it the size of what it is given: the gradients after burn has clipped them.

use burn::grad_clipping::GradientClippingConfig;
use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, AdamWConfig, SimpleOptimizer};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use traintrue_protocol::digest::square_sum;
use traintrue_protocol::plan::Train;

use crate::journal::Journal;
use crate::model::values;

/// burn's AdamW, as burn wraps it: its adaptor clips, and hands it one tensor after the other.
pub fn adamw<B, M>(train: &Train, journal: &Journal) -> OptimizerAdaptor<Watched, M, B>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
{
    let settings = &train.optimizer;
    let config = AdamWConfig::new()
        .with_beta_1(settings.betas[0] as f32)
        .with_beta_2(settings.betas[1] as f32)
        .with_epsilon(settings.eps as f32)
        .with_weight_decay(settings.decay as f32);
    let inner = config.init::<B, M>().optim().clone();
    let adaptor = OptimizerAdaptor::from(Watched { inner, journal: journal.clone() });
    match train.clip {
        Some(most) => adaptor.with_grad_clipping(GradientClippingConfig::Norm(most as f32).init()),
        None => adaptor,
    }
}

/// AdamW, and who is told of its gradients.
#[derive(Clone)]
pub struct Watched {
    inner: AdamW,
    journal: Journal,
}

impl<B: Backend> SimpleOptimizer<B> for Watched {
    type State<const D: usize> = <AdamW as SimpleOptimizer<B>>::State<D>;

    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<B, D>,
        gradient: Tensor<B, D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<B, D>, Option<Self::State<D>>) {
        self.journal.given(square_sum(&values(gradient.clone())));
        self.inner.step(lr, tensor, gradient, state)
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        <AdamW as SimpleOptimizer<B>>::to_device(state, device)
    }
}
