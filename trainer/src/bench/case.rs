//! A case of the benchmark: launches over buffers that it lists itself.

use duet::families::{Choices, Family, Key};
use duet::gpu::{BufferId, Launch, Slice};
use duet::tensor::pitch;

/// One operation on one shape.
pub struct Case {
    /// Kernel, shape and direction.
    pub name: String,
    /// Which of several kernels for it.
    pub variant: &'static str,
    /// Bytes of its buffers.
    pub sizes: Vec<u64>,
    /// What runs.
    pub launches: Vec<Launch>,
    /// The same with one output per invocation.
    pub naive: Option<Vec<Launch>>,
}

/// Buffers of a case.
#[derive(Default)]
pub struct Buffers {
    sizes: Vec<u64>,
}

impl Buffers {
    /// A buffer.
    pub fn bytes(&mut self, bytes: u64) -> Slice {
        let bytes = bytes.max(16).next_multiple_of(16);
        self.sizes.push(bytes);
        Slice { buffer: BufferId(self.sizes.len() as u32 - 1), offset: 0, bytes, half: false }
    }

    /// Rows of channels-last values.
    pub fn rows(&mut self, rows: usize, columns: usize) -> Slice {
        self.bytes((rows * pitch(columns) * 4) as u64)
    }
}

/// The cases so far.
pub struct Cases<'a> {
    list: Vec<Case>,
    choices: &'a Choices,
}

impl<'a> Cases<'a> {
    /// None yet; families are those of `choices`.
    pub fn new(choices: &'a Choices) -> Cases<'a> {
        Cases { list: Vec::new(), choices }
    }

    /// All that were added.
    pub fn list(self) -> Vec<Case> {
        self.list
    }

    /// The only way to do something.
    pub fn add(&mut self, name: String, make: impl FnOnce(&mut Buffers) -> Vec<Launch>) {
        self.add_variant(name, "default", make);
    }

    /// One of several ways to do the same.
    pub fn add_variant(
        &mut self,
        name: String,
        variant: &'static str,
        make: impl FnOnce(&mut Buffers) -> Vec<Launch>,
    ) {
        let mut buffers = Buffers::default();
        let launches = make(&mut buffers);
        self.list.push(Case { name, variant, sizes: buffers.sizes, launches, naive: None });
    }

    /// Whether workgroups are those for a GPU.
    pub fn is_gpu(&self) -> bool {
        self.choices.is_gpu()
    }

    /// The family that the device chooses.
    pub fn chosen(&self, key: &Key) -> Family {
        self.choices.family(key)
    }

    /// An operation in the family that the device chooses.
    pub fn add_chosen(
        &mut self,
        name: String,
        key: &Key,
        make: impl FnOnce(&mut Buffers, Family) -> (Vec<Launch>, Option<Vec<Launch>>),
    ) {
        let family = self.chosen(key);
        let mut buffers = Buffers::default();
        let (launches, naive) = make(&mut buffers, family);
        let variant = family.name();
        self.list.push(Case { name, variant, sizes: buffers.sizes, launches, naive });
    }
}
