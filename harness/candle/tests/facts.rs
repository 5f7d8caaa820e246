//! What is so in candle 0.11.1, as the results page says it: a candle that changes it shows here first.
#![allow(missing_docs, reason = "tests have names")]

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::{LayerNorm, Module, ops};

const EPS: f32 = 1e-5;

fn variable(values: &[f32]) -> Result<Var> {
    Var::from_slice(values, (1, values.len()), &Device::Cpu)
}

#[test]
fn the_cpu_cannot_be_seeded() {
    let error = Device::Cpu.set_seed(7).unwrap_err().to_string();
    assert!(error.contains("cannot seed the CPU rng with set_seed"), "{error}");
    assert!(Device::Cpu.get_current_seed().is_err());
}

#[test]
fn no_gradient_goes_through_the_layer_norm_module_and_nothing_says_so() -> Result<()> {
    let (weight, bias) = (
        Var::from_slice(&[1.5_f32, 1.0, 0.5], 3, &Device::Cpu)?,
        Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu)?,
    );
    let x = variable(&[0.1, -0.4, 0.9])?;
    let fast = LayerNorm::new(weight.as_tensor().clone(), bias.clone(), f64::from(EPS)).forward(&x)?;
    let slow = ops::layer_norm_slow(&x, &weight, &bias, EPS)?;
    let apart = (&fast - &slow)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(apart < 1e-6, "{apart}");
    let (fast, slow) = (fast.sqr()?.sum_all()?.backward()?, slow.sqr()?.sum_all()?.backward()?);
    assert!(fast.get(&x).is_none() && fast.get(&weight).is_none());
    assert!(slow.get(&x).is_some() && slow.get(&weight).is_some());
    Ok(())
}

#[test]
fn nor_through_softmax_last_dim_and_rms_norm() -> Result<()> {
    let (x, weight) = (variable(&[0.1, -0.4, 0.9])?, Tensor::ones(3, candle_core::DType::F32, &Device::Cpu)?);
    let reaches =
        |y: Tensor| Ok::<bool, candle_core::Error>(y.sqr()?.sum_all()?.backward()?.get(&x).is_some());
    assert!(!reaches(ops::softmax_last_dim(&x)?)?);
    assert!(reaches(ops::softmax(&x, D::Minus1)?)?);
    assert!(!reaches(ops::rms_norm(&x, &weight, EPS)?)?);
    assert!(reaches(ops::rms_norm_slow(&x, &weight, EPS)?)?);
    Ok(())
}

#[test]
fn a_gradient_store_keeps_gradients_of_constants_too() -> Result<()> {
    let (x, constant) =
        (variable(&[0.1, -0.4, 0.9])?, Tensor::ones((1, 3), candle_core::DType::F32, &Device::Cpu)?);
    let store = (x.as_tensor() * &constant)?.sum_all()?.backward()?;
    assert!(store.get(&constant).is_some());
    assert_eq!(store.get_ids().count(), 2);
    Ok(())
}
