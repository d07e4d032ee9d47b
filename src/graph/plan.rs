//! A graph compiled: launches over planned memory.

use super::arenas::arena_bytes;
use super::gather::Listing;
use super::memory::{ALIGNMENT, Lifetime, MemoryPlan, plan_memory};
use super::parts::Hosts;
use super::{Context, Graph, Node, NodeId};
use crate::error::{Error, Result};
use crate::families::{Choices, Key};
use crate::gpu::{Buffer, BufferId, BufferSpec, Device, Executable, Launch, Program, Slice};
use crate::tensor::device_bytes;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// Most bytes that tensors are packed into one buffer of, WebGPU's default binding limit; a larger tensor has its own.
pub const DEFAULT_MAX_BINDING: u64 = 128 << 20;

/// What a plan costs, known before anything is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanStats {
    /// Dispatches per run.
    pub dispatches: usize,
    /// Distinct pipelines.
    pub pipelines: usize,
    /// Multiply-adds of convolutions, matrix products and attention per run.
    pub multiply_adds: u64,
    /// Bytes of memory that only this plan uses.
    pub slot_bytes: u64,
    /// Least such bytes any plan of this order could use.
    pub lower_bound: u64,
    /// Such bytes without reuse.
    pub unshared_bytes: u64,
    /// Bytes of the named buffers: parameters, inputs, states.
    pub external_bytes: u64,
}

/// A compiled graph: fixed launches over planned memory.
#[derive(Clone, Debug)]
pub struct Plan {
    program: Program,
    memory: MemoryPlan,
    /// Of each launch the shapes of what its operation reads first and what it makes.
    shapes: Vec<String>,
    /// What it was compiled of, where the device it is loaded on still chooses the kernels' families.
    graph: Option<Arc<Graph>>,
}

struct Compiler<'a> {
    graph: &'a Graph,
    /// Virtual buffers: one per tensor or scratch, before slots are shared.
    virtual_bytes: Vec<u64>,
    of_node: BTreeMap<NodeId, (BufferId, u64)>,
    /// Tensors that lie in others.
    hosts: Hosts,
    externals: BTreeMap<String, (BufferId, u64)>,
}

impl Compiler<'_> {
    fn allocate(&mut self, bytes: u64) -> BufferId {
        self.virtual_bytes.push(bytes.max(16).next_multiple_of(16));
        BufferId(self.virtual_bytes.len() as u32 - 1)
    }

    fn slice(&mut self, node: NodeId) -> Slice {
        let graph = self.graph;
        let tensor = graph.node(node);
        let bytes = storage_bytes(&tensor.shape, tensor.half);
        if let Some((host, offset)) = self.hosts.get(&node).copied() {
            let host = self.slice(host);
            return Slice { offset: host.offset + offset, bytes, ..host };
        }
        if let Some(place) = &tensor.place {
            let end = place.offset + bytes;
            if let Some((buffer, size)) = self.externals.get_mut(&place.buffer) {
                *size = (*size).max(end);
                return Slice { buffer: *buffer, offset: place.offset, bytes, half: false };
            }
            let buffer = self.allocate(0);
            self.externals.insert(place.buffer.clone(), (buffer, end));
            return Slice { buffer, offset: place.offset, bytes, half: false };
        }
        let (buffer, offset) = match self.of_node.get(&node) {
            Some(known) => *known,
            None => {
                let buffer = self.allocate(bytes);
                self.of_node.insert(node, (buffer, 0));
                (buffer, 0)
            }
        };
        Slice { buffer, offset, bytes, half: tensor.half }
    }

    /// Lays tensors that have no place yet side by side, in as few buffers as can be bound.
    fn join(&mut self, tensors: impl Iterator<Item = NodeId>) {
        let (mut joined, mut end) = (Vec::new(), 0);
        for id in tensors {
            let tensor = self.graph.node(id);
            let known = self.hosts.contains_key(&id) || self.of_node.contains_key(&id);
            if known || tensor.place.is_some() {
                continue;
            }
            let bytes = storage_bytes(&tensor.shape, tensor.half).next_multiple_of(ALIGNMENT);
            if end + bytes > DEFAULT_MAX_BINDING {
                self.place_joined(std::mem::take(&mut joined), std::mem::take(&mut end));
            }
            joined.push((id, end));
            end += bytes;
        }
        self.place_joined(joined, end);
    }

    fn place_joined(&mut self, joined: Vec<(NodeId, u64)>, bytes: u64) {
        if !joined.is_empty() {
            let buffer = self.allocate(bytes);
            self.of_node.extend(joined.into_iter().map(|(id, offset)| (id, (buffer, offset))));
        }
    }
}

/// Bytes of a tensor, of f16 half as many.
fn storage_bytes(shape: &[usize], half: bool) -> u64 {
    let bytes = device_bytes(shape).max(16);
    if half { bytes / 2 } else { bytes }
}

impl Graph {
    /// Nodes that lead to a placed result or a changed state; all others are dropped.
    pub(crate) fn needed(&self) -> Vec<bool> {
        let mut needed: Vec<bool> = self
            .nodes
            .iter()
            .map(|n| {
                let changes = n.updates.iter().any(|u| self.node(*u).place.is_some());
                changes || (n.place.is_some() && !n.is_memory())
            })
            .collect();
        for i in (0..needed.len()).rev() {
            let node = &self.nodes[i];
            // Who writes memory that is read later is needed, even where nothing reads its result.
            needed[i] |= node.updates.iter().any(|update| needed[update.index()]);
            if needed[i] {
                for other in node.inputs.iter().chain(&node.updates) {
                    needed[other.index()] = true;
                }
            }
        }
        needed
    }

    fn shape_summary(&self, node: &Node) -> String {
        let text = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let input = node.inputs.first().map_or(String::new(), |first| text(self.shape(*first)));
        if node.shape.is_empty() { input } else { format!("{input} -> {}", text(&node.shape)) }
    }

    /// Operations that exist in several families of kernels, and how often each runs.
    pub fn keys(&self) -> BTreeMap<Key, usize> {
        let mut keys = BTreeMap::new();
        for (node, needed) in self.nodes.iter().zip(self.needed()) {
            for key in node.op.keys().into_iter().filter(|_| needed) {
                *keys.entry(key).or_insert(0) += 1;
            }
        }
        keys
    }

    /// Compiles what leads to placed results and changed states. The plan shows the direct family of kernels; the device
    /// it is loaded on replaces it by its own choices ([`Choices::of_device`]).
    ///
    /// # Errors
    /// [`Error::Shape`] for a tensor that cannot be bound, [`Error::Gpu`] where a launch would bind memory both for
    /// reading and writing.
    pub fn compile(&self) -> Result<Plan> {
        let plan = self.compile_for(&Choices::default())?;
        Ok(Plan { graph: Some(Arc::new(self.clone())), ..plan })
    }

    /// Compiles for good in the families of `choices`, whatever device the plan is loaded on.
    ///
    /// # Errors
    /// As [`Graph::compile`].
    pub fn compile_for(&self, choices: &Choices) -> Result<Plan> {
        self.absorbed(choices).compile_over(choices, true, Some(DEFAULT_MAX_BINDING))
    }

    /// As [`Graph::compile_for`], but every operation runs by itself, none in the kernel of another one.
    ///
    /// # Errors
    /// As [`Graph::compile`].
    pub fn compile_apart(&self, choices: &Choices) -> Result<Plan> {
        self.compile_over(choices, true, Some(DEFAULT_MAX_BINDING))
    }

    /// As [`Graph::compile_for`], but every tensor has memory of its own: the same launches and numbers for more memory.
    /// Where two such plans differ in a bit, memory was shared that was still in use.
    ///
    /// # Errors
    /// As [`Graph::compile`].
    pub fn compile_unshared(&self, choices: &Choices) -> Result<Plan> {
        self.absorbed(choices).compile_over(choices, false, Some(DEFAULT_MAX_BINDING))
    }

    /// As [`Graph::compile_for`], but the launches are those that the operations made, no sums gathered: more launches, the same
    /// bits.
    ///
    /// # Errors
    /// As [`Graph::compile`].
    pub fn compile_as_made(&self, choices: &Choices) -> Result<Plan> {
        self.absorbed(choices).compile_over(choices, true, None)
    }

    /// `most`: bytes that a launch of gathered sums may bind; `None`: none are gathered.
    fn compile_over(&self, choices: &Choices, share: bool, most: Option<u64>) -> Result<Plan> {
        let needed = self.needed();
        let shapes =
            self.nodes.iter().zip(&needed).filter(|(node, needed)| **needed && !node.shape.is_empty());
        for (node, _) in shapes {
            // Kernels count values, and divide by them, in 32 bits.
            if !(4..=u64::from(u32::MAX) * 4).contains(&device_bytes(&node.shape)) {
                let detail =
                    format!("a tensor of {:?} must have at least 1 value and less than 2^32", node.shape);
                return Err(Error::shape("graph", detail));
            }
        }
        let mut compiler = Compiler {
            graph: self,
            virtual_bytes: Vec::new(),
            of_node: BTreeMap::new(),
            hosts: self.hosts(&needed),
            externals: BTreeMap::new(),
        };
        let read = self.read(&needed);
        let mut launches: Vec<Launch> = Vec::new();
        let mut shapes: Vec<String> = Vec::new();
        let mut additions: Vec<usize> = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            if !needed[i] || node.is_memory() {
                continue;
            }
            if node.op.joins_updates() {
                compiler.join(node.updates.iter().copied().filter(|update| read[update.index()]));
            }
            let inputs: Vec<Slice> = node.inputs.iter().map(|n| compiler.slice(*n)).collect();
            let updates: Vec<Slice> = node.updates.iter().map(|n| compiler.slice(*n)).collect();
            // A node without a result (it only changes states) gets no memory of its own.
            let output = match updates.first() {
                Some(state) if node.shape.is_empty() => *state,
                None if node.shape.is_empty() => {
                    let detail = format!("{:?} has neither a result nor a state", node.op);
                    return Err(Error::shape("graph", detail));
                }
                _ => compiler.slice(NodeId(i as u32)),
            };
            let mut allocate = |bytes| {
                let buffer = compiler.allocate(bytes);
                Slice { buffer, offset: 0, bytes: compiler.virtual_bytes[buffer.0 as usize], half: false }
            };
            let (inputs, updates) = (inputs.as_slice(), updates.as_slice());
            let read: Vec<bool> = node.updates.iter().map(|update| read[update.index()]).collect();
            let mut context =
                Context { choices, inputs, updates, read: &read, output, allocate: &mut allocate };
            let made = node.op.lower(&mut context);
            if let Some(launch) = made.iter().find(|launch| !launch.is_stored()) {
                let detail = format!(
                    "{} of {:?} has no variant for what it would bind as f16",
                    launch.kernel, node.op
                );
                return Err(Error::Gpu { detail });
            }
            if node.op.adds() {
                additions.push(launches.len());
            }
            launches.extend(made);
            shapes.resize(launches.len(), self.shape_summary(node));
        }
        let Compiler { mut virtual_bytes, externals, .. } = compiler;
        if let Some(most) = most {
            let given = externals.values().map(|(buffer, _)| *buffer).collect();
            let (bytes, arena) = (&mut virtual_bytes, arena_bytes(choices.is_gpu(), most));
            let wait = self.early.unwrap_or(u64::MAX);
            (launches, shapes) =
                Listing { launches, shapes, additions, bytes, given, arena, wait, most }.gather();
        }
        Plan::new(launches, shapes, &virtual_bytes, externals, share)
    }
}

impl Plan {
    fn new(
        mut launches: Vec<Launch>,
        shapes: Vec<String>,
        virtual_bytes: &[u64],
        externals: BTreeMap<String, (BufferId, u64)>,
        share: bool,
    ) -> Result<Plan> {
        let mut external_of = BTreeMap::new();
        let mut buffers = Vec::new();
        for (name, (buffer, bytes)) in externals {
            external_of.insert(buffer, BufferId(buffers.len() as u32));
            buffers.push(BufferSpec::External { name, bytes });
        }
        let mut spans: BTreeMap<BufferId, (usize, usize)> = BTreeMap::new();
        for (time, launch) in launches.iter().enumerate() {
            for slice in launch.reads.iter().chain(&launch.writes) {
                let span = spans.entry(slice.buffer).or_insert((time, time));
                span.1 = time;
            }
        }
        let own: Vec<BufferId> = spans.keys().filter(|b| !external_of.contains_key(b)).copied().collect();
        let lifetimes: Vec<Lifetime> = own
            .iter()
            .map(|b| Lifetime { bytes: virtual_bytes[b.0 as usize], first: spans[b].0, last: spans[b].1 })
            .collect();
        let number: BTreeMap<BufferId, usize> = own.iter().enumerate().map(|(i, b)| (*b, i)).collect();
        let mut conflicts = Vec::new();
        for launch in &launches {
            let own = |slice: &Slice| number.get(&slice.buffer).copied();
            for write in launch.writes.iter().filter_map(own) {
                conflicts.extend(launch.reads.iter().filter_map(own).map(|read| (write, read)));
            }
        }
        let memory = plan_memory(&lifetimes, &conflicts, DEFAULT_MAX_BINDING, share);
        let base = buffers.len() as u32;
        buffers.extend(memory.slots.iter().map(|bytes| BufferSpec::Slot { bytes: *bytes }));
        for launch in &mut launches {
            for slice in launch.reads.iter_mut().chain(&mut launch.writes) {
                match number.get(&slice.buffer) {
                    Some(&tensor) => {
                        slice.buffer = BufferId(base + memory.slot[tensor] as u32);
                        slice.offset += memory.offset[tensor];
                    }
                    None => slice.buffer = external_of[&slice.buffer],
                }
            }
            if let Some(both) =
                launch.writes.iter().find(|w| launch.reads.iter().any(|r| r.buffer == w.buffer))
            {
                let detail = format!("{} would read and write buffer {}", launch.kernel, both.buffer.0);
                return Err(Error::Gpu { detail });
            }
        }
        Ok(Plan { program: Program { buffers, launches }, memory, shapes, graph: None })
    }

    /// What the plan costs.
    pub fn stats(&self) -> PlanStats {
        let external_bytes =
            self.program.buffers.iter().map(BufferSpec::bytes).sum::<u64>() - self.memory.bytes();
        PlanStats {
            dispatches: self.program.launches.len(),
            pipelines: self.program.kernels().len(),
            multiply_adds: self.program.multiply_adds(),
            slot_bytes: self.memory.bytes(),
            lower_bound: self.memory.lower_bound,
            unshared_bytes: self.memory.unshared,
            external_bytes,
        }
    }

    /// Operations that exist in several families of kernels, and how often each runs; empty where the families are chosen
    /// for good.
    pub fn keys(&self) -> BTreeMap<Key, usize> {
        self.graph.as_ref().map(|graph| graph.keys()).unwrap_or_default()
    }

    /// The launches and buffers.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Of each launch the shapes of its operation, as `8x28x28x32 -> 8x28x28x64`.
    pub fn shapes(&self) -> &[String] {
        &self.shapes
    }

    /// Names and least sizes of the buffers that must be given when the plan is loaded.
    pub fn externals(&self) -> impl Iterator<Item = (&str, u64)> {
        self.program.buffers.iter().filter_map(|b| match b {
            BufferSpec::External { name, bytes } => Some((name.as_str(), *bytes)),
            BufferSpec::Slot { .. } => None,
        })
    }

    /// Bytes of the largest buffer bound.
    pub fn largest_binding(&self) -> u64 {
        let slices = self.program.launches.iter().flat_map(|l| l.reads.iter().chain(&l.writes));
        slices.map(|s| s.bytes).max().unwrap_or(0)
    }

    /// The plan with the families of `choices`, for good; one that [`Graph::compile_for`] made stays as it is. Names and
    /// sizes of the buffers to give do not depend on families.
    ///
    /// # Errors
    /// As [`Graph::compile`].
    pub fn chosen(&self, choices: &Choices) -> Result<Plan> {
        Ok(self.other_families(choices)?.unwrap_or_else(|| Plan { graph: None, ..self.clone() }))
    }

    /// The plan compiled anew where `choices` ask for more than the direct family; `None`: it serves as it is.
    fn other_families(&self, choices: &Choices) -> Result<Option<Plan>> {
        match &self.graph {
            Some(graph) if !choices.is_direct() => graph.compile_for(choices).map(Some),
            _ => Ok(None),
        }
    }

    /// The plan as it runs on `device`, for good.
    ///
    /// # Errors
    /// As [`Graph::compile`].
    pub fn on(&self, device: &Device) -> Result<Plan> {
        Ok(self.instead_on(device)?.unwrap_or_else(|| Plan { graph: None, ..self.clone() }))
    }

    /// What runs on `device` instead; `None`: the plan as it is.
    fn instead_on(&self, device: &Device) -> Result<Option<Plan>> {
        let choices = Choices::of_device(device);
        let other = self.other_families(&choices)?;
        let have = device.max_binding();
        // Where little can be bound fewer sums are made at a time.
        match &self.graph {
            Some(graph) if other.as_ref().unwrap_or(self).largest_binding() > have => {
                graph.absorbed(&choices).compile_over(&choices, true, Some(have)).map(Some)
            }
            _ => Ok(other),
        }
    }

    /// Loads the plan onto a device, in the families that the device chooses.
    ///
    /// # Errors
    /// As [`Device::load`]; [`Error::LimitTooSmall`] where a tensor exceeds the device's largest binding.
    pub async fn load(
        &self,
        device: &Device,
        external: impl Fn(&str) -> Option<Buffer>,
    ) -> Result<Executable> {
        let other = self.instead_on(device)?;
        let plan = other.as_ref().unwrap_or(self);
        let (need, have) = (plan.largest_binding(), device.max_binding());
        if need > have {
            return Err(Error::LimitTooSmall { limit: "maxStorageBufferBindingSize", need, have });
        }
        device.load(&plan.program, external).await
    }
}

impl std::fmt::Display for Plan {
    /// The plan as text, one line a buffer and one a launch: what snapshots compare.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stats = self.stats();
        writeln!(
            f,
            "dispatches {} pipelines {} multiply-adds {} slot bytes {} (lower bound {}, without reuse {})",
            stats.dispatches,
            stats.pipelines,
            stats.multiply_adds,
            stats.slot_bytes,
            stats.lower_bound,
            stats.unshared_bytes
        )?;
        for (i, buffer) in self.program.buffers.iter().enumerate() {
            match buffer {
                BufferSpec::Slot { bytes } => writeln!(f, "b{i} slot {bytes}")?,
                BufferSpec::External { name, bytes } => writeln!(f, "b{i} {name} {bytes}")?,
            }
        }
        for launch in &self.program.launches {
            let list = |slices: &[Slice]| {
                let mut text = String::new();
                for s in slices {
                    let _ = write!(text, " b{}", s.buffer.0);
                    if s.offset > 0 {
                        let _ = write!(text, "+{}", s.offset);
                    }
                }
                text
            };
            let [x, y, z] = launch.workgroups;
            let (reads, writes) = (list(&launch.reads), list(&launch.writes));
            writeln!(f, "{} [{x} {y} {z}]{reads} ->{writes}", launch.kernel)?;
        }
        Ok(())
    }
}
