//! What is so in candle 0.11.1, as the results page says it: a candle that changes it shows here first.
#![allow(missing_docs, reason = "tests have names")]

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, LayerNorm, Module, Optimizer, VarMap, ops};

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
        Tensor::zeros(3, DType::F32, &Device::Cpu)?,
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
    let (x, weight) = (variable(&[0.1, -0.4, 0.9])?, Tensor::ones(3, DType::F32, &Device::Cpu)?);
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
    let (x, constant) = (variable(&[0.1, -0.4, 0.9])?, Tensor::ones((1, 3), DType::F32, &Device::Cpu)?);
    let store = (x.as_tensor() * &constant)?.sum_all()?.backward()?;
    assert!(store.get(&constant).is_some());
    assert_eq!(store.get_ids().count(), 2);
    Ok(())
}

#[test]
fn two_maps_of_the_same_variables_list_them_in_other_orders() -> Result<()> {
    let sizes = || -> Result<Vec<usize>> {
        let map = VarMap::new();
        for size in 1..=30 {
            map.get(size, &format!("layer{size}"), candle_nn::init::ZERO, DType::F32, &Device::Cpu)?;
        }
        Ok(map.all_vars().iter().map(|var| var.elem_count()).collect())
    };
    assert_ne!(sizes()?, sizes()?);
    Ok(())
}

#[test]
fn an_adamw_made_anew_takes_another_step() -> Result<()> {
    let whole = variable(&[1.0])?;
    let mut optimizer = AdamW::new_lr(vec![whole.clone()], 0.1)?;
    let step = |optimizer: &mut AdamW, var: &Var, gradient: f64| {
        optimizer.backward_step(&(var.as_tensor() * gradient)?.sum_all()?)
    };
    step(&mut optimizer, &whole, 1.0)?;
    let resumed = Var::from_tensor(&whole.as_tensor().copy()?)?;
    let mut anew = AdamW::new_lr(vec![resumed.clone()], 0.1)?;
    step(&mut optimizer, &whole, -0.5)?;
    step(&mut anew, &resumed, -0.5)?;
    let value = |var: &Var| var.flatten_all()?.to_vec1::<f32>().map(|values| values[0]);
    let (whole, resumed) = (value(&whole)?, value(&resumed)?);
    // The one goes on down, by what is left of the first gradient; the other turns round at once, by a whole step.
    assert!(whole < 0.9 && resumed > 0.99, "{whole} {resumed}");
    Ok(())
}
