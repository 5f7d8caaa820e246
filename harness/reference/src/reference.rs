//! The reference trainer as a `Trainer` of the protocol: it enters by the same door as every other trainer.

use std::mem;

use traintrue_protocol::contract::Contract;
use traintrue_protocol::plan::{Boundary, Plan};
use traintrue_protocol::vocabulary::Capability;
use traintrue_protocol::{Recorder, Trainer, TrainerError};

use crate::allowance::Allowance;
use crate::checkpoint::{Disk, Dying, Files, Store};
use crate::cycle::cycles;
use crate::data::{Shard, collate};
#[cfg(feature = "wgpu")]
use crate::device::adapters;
use crate::device::{Device, DeviceError};
use crate::engine::{self, Engine};
use crate::error::TrainError;
use crate::events;
use crate::faults::planted;
use crate::graph;
use crate::meter::Meter;
use crate::model::Size;
use crate::placement::{NoDevice, Placed, place};
use crate::trainer::{Training, own_contract};
use crate::turn::Turn;

/// The reference trainer. Only one training runs per process (burn#5573): a second thread waits until the first is done.
#[derive(Debug, Default)]
pub struct Reference {
    device: Device,
    faults: Vec<String>,
    death: Option<Death>,
    contract: Contract,
    /// The device for the plan that was prepared; or, for its trace, why the plan has none.
    place: Option<Result<Placed, NoDevice>>,
}

/// A death of the file layer, and of the process with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// The number of the file operation that does not happen any more, counted from 1.
    pub before_operation: u64,
    /// Whether bytes that were not synced are lost, as in a power cut.
    pub loses_unsynced: bool,
}

impl Reference {
    /// A trainer with these faults planted, by id. It uses `device` where the plan names no devices.
    pub fn new(device: Device, faults: Vec<String>, death: Option<Death>) -> Self {
        Self { device, faults, death, ..Self::default() }
    }

    /// The collator of `plan` alone, as a memory probe calls it. Given an index, it makes that micro-batch of the first
    /// epoch, drops it, and returns its number of samples.
    pub fn collator<'a>(&self, plan: &'a Plan) -> Result<impl FnMut(u64) -> u64 + use<'a>, TrainError> {
        self.check(plan)?;
        let parts = planted::<engine::Cpu>(&self.faults)?;
        let Plan { data, train, seed, .. } = plan;
        let mut shard = Shard::new(parts.order, *seed, data, train);
        Ok(move |index| {
            let index = index % shard.micro_batches;
            let samples = shard.samples(data, 0, index);
            let heads = !train.heads.is_empty();
            collate(&parts.collate, data, &data.samples, &data.padding, samples, heads).counts.samples
        })
    }

    fn check(&self, plan: &Plan) -> Result<(), TrainError> {
        Size::named(&plan.model.size)?;
        if plan.train.heads.len() > 1 {
            return Err(TrainError::Heads(plan.train.heads.len()));
        }
        planted::<engine::Cpu>(&self.faults).map(|_| ())
    }

    fn place(&self, plan: &Plan) -> Result<Result<Placed, NoDevice>, TrainError> {
        let parts = planted::<engine::Cpu>(&self.faults)?;
        Ok(place(plan, self.device, parts.placement, parts.unchanged.adapted)?)
    }

    /// Chooses the backend. It is a type parameter, so that each of them is compiled and optimised in this crate.
    fn train(&self, plan: &Plan, placed: &Placed, recorder: &mut Recorder) -> Result<(), TrainError> {
        use engine::*;
        match placed.device {
            Device::Ndarray => self.choose::<Cpu, CpuRecomputing>(plan, placed, Default::default(), recorder),
            Device::Flex => {
                self.choose::<OnFlex, OnFlexRecomputing>(plan, placed, Default::default(), recorder)
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(index) => {
                let device = burn_cuda::CudaDevice::new(index);
                self.choose::<OnCuda, OnCudaRecomputing>(plan, placed, device, recorder)
            }
            #[cfg(feature = "wgpu")]
            Device::Wgpu(index) => {
                self.choose::<OnWgpu, OnWgpuRecomputing>(plan, placed, adapters::place(index), recorder)
            }
            #[allow(unreachable_patterns, reason = "no pattern is left where the build has every device")]
            device => Err(DeviceError::NotBuilt(device).into()),
        }
    }

    /// Trains on the backend that keeps activations, or on the one that recomputes them.
    fn choose<Keeping: Engine, Recomputing: Engine<Device = Keeping::Device>>(
        &self,
        plan: &Plan,
        placed: &Placed,
        device: Keeping::Device,
        recorder: &mut Recorder,
    ) -> Result<(), TrainError> {
        let recomputes = planted::<engine::Cpu>(&self.faults)?.unchanged.recomputes;
        if recomputes(&plan.train) {
            self.train_on::<Recomputing>(plan, placed, device, recorder)
        } else {
            self.train_on::<Keeping>(plan, placed, device, recorder)
        }
    }

    fn train_on<E: Engine>(
        &self,
        plan: &Plan,
        placed: &Placed,
        device: E::Device,
        recorder: &mut Recorder,
    ) -> Result<(), TrainError> {
        // Before anything is measured: the heap belongs to the process, and so do burn's graphs.
        let _turn = Turn::take();
        let mut parts = planted::<E>(&self.faults)?;
        let files: Box<dyn Files> = match self.death {
            None => Box::new(Disk::default()),
            Some(death) => Box::new(Dying::new(death.before_operation, death.loses_unsynced)),
        };
        let store = Store { parts: parts.store, files };
        // Epochs are compared to the byte, and so are models after their unload: there burn's graph must be at rest.
        let at_rest = [Boundary::Epoch, Boundary::Unload].iter().any(|at| plan.sample_memory.contains(at));
        if at_rest {
            graph::settle::<E>(&device);
        }
        let unloads = plan.sample_memory.contains(&Boundary::Unload);
        let meter = Meter::attach(recorder, plan, {
            let device = device.clone();
            move || {
                if at_rest {
                    graph::collect::<E>(&device);
                }
                if unloads {
                    // Bringing the graph to rest took a page of the pool, which would count as the model's.
                    E::release_unused(&device);
                }
                E::lanes(&device)
            }
        });
        let allowance =
            |device| Allowance::from_now::<E>(placed.device.to_string(), placed.budget_bytes, device);
        let before = allowance(&device);
        let cycled = E::guarded(&device, || cycles(plan, &mut parts, &device, recorder));
        before.after::<E, _>(cycled, &device)??;
        // Again, because what is loaded once stays.
        let allowance = allowance(&device);
        Training::new(plan, parts, device, allowance, store, recorder, meter)?.train()
    }
}

impl Trainer for Reference {
    fn prepare(&mut self, plan: &Plan) -> Result<(), TrainerError> {
        self.check(plan)?;
        self.contract = own_contract(plan);
        self.place = Some(self.place(plan)?);
        Ok(())
    }

    fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
        let mut place = match self.place.take() {
            Some(prepared) => prepared,
            None => self.place(plan)?,
        };
        let left = match &mut place {
            Ok(placed) => mem::take(&mut placed.left),
            Err(refused) => mem::take(&mut refused.left),
        };
        for event in events::given_up(left, plan) {
            recorder.write(|| event)?;
        }
        let placed = place.map_err(TrainError::from)?;
        Ok(self.train(plan, &placed, recorder)?)
    }

    fn name(&self) -> String {
        format!("traintrue-reference {}", env!("CARGO_PKG_VERSION"))
    }

    fn device(&self) -> String {
        let placed = self.place.as_ref().and_then(|place| place.as_ref().ok());
        placed.map_or(self.device, |placed| placed.device).to_string()
    }

    fn capabilities(&self) -> &[Capability] {
        Capability::ALL
    }

    fn contract(&self) -> Contract {
        self.contract.clone()
    }
}
