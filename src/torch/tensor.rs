//! Tensors as they lie in a file: a storage's bytes, and how a tensor lies over them.

use crate::tensor::HostTensor;
use half::{bf16, f16};

/// Most dimensions that PyTorch's tensors have.
const MOST_DIMENSIONS: usize = 64;

/// Number type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it: floats F, whole numbers I and U, by bits")]
pub enum Dtype {
    F32,
    F16,
    /// The upper half of an f32.
    BF16,
    F64,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::BF16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// Whether it is a type of floats.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
    }

    /// The value of this many bytes, rounded to f32.
    fn value(self, bytes: &[u8]) -> Option<f32> {
        Some(match self {
            Dtype::F32 => f32::from_le_bytes(bytes.try_into().ok()?),
            Dtype::F16 => f16::from_le_bytes(bytes.try_into().ok()?).to_f32(),
            Dtype::BF16 => bf16::from_le_bytes(bytes.try_into().ok()?).to_f32(),
            Dtype::F64 => f64::from_le_bytes(bytes.try_into().ok()?) as f32,
            Dtype::I64 => i64::from_le_bytes(bytes.try_into().ok()?) as f32,
            Dtype::I32 => i32::from_le_bytes(bytes.try_into().ok()?) as f32,
            Dtype::I16 => f32::from(i16::from_le_bytes(bytes.try_into().ok()?)),
            Dtype::I8 => f32::from(i8::from_le_bytes(bytes.try_into().ok()?)),
            Dtype::U8 | Dtype::Bool => f32::from(u8::from_le_bytes(bytes.try_into().ok()?)),
        })
    }
}

/// How a tensor lies over a storage, in values: checked against the storage's announced length.
#[derive(Debug)]
pub(super) struct View {
    /// Number of the storage.
    storage: usize,
    dtype: Dtype,
    offset: usize,
    shape: Box<[usize]>,
    strides: Box<[usize]>,
}

impl View {
    /// Checks that no value lies beyond the `numel` of the storage.
    pub fn new(
        storage: usize,
        (dtype, numel): (Dtype, usize),
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<View, String> {
        if shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
            return Err(format!("has a tensor of {} lengths and {} strides", shape.len(), strides.len()));
        }
        let count = shape.iter().try_fold(1usize, |count, length| count.checked_mul(*length));
        // Offset of the last value, one dimension's after the other.
        let last = shape.iter().zip(&strides).try_fold(offset, |last, (length, stride)| {
            last.checked_add(length.saturating_sub(1).checked_mul(*stride)?)
        });
        let inside = match (count, last) {
            (Some(0), _) => true,
            (Some(_), Some(last)) => last < numel,
            _ => false,
        };
        if !inside {
            return Err(format!(
                "has a tensor {shape:?} with strides {strides:?} from value {offset}, beyond its storage of {numel}"
            ));
        }
        Ok(View { storage, dtype, offset, shape: shape.into(), strides: strides.into() })
    }

    /// The tensor, given the bytes of all storages.
    pub fn over<'a>(&self, storages: &[&'a [u8]]) -> Option<Tensor<'a>> {
        let (shape, strides) = (self.shape.to_vec(), self.strides.to_vec());
        let empty = shape.contains(&0);
        let start = if empty { 0 } else { self.offset.checked_mul(self.dtype.bytes())? };
        let data = storages.get(self.storage)?.get(start..)?;
        Some(Tensor { dtype: self.dtype, shape, strides, data })
    }
}

/// A tensor of a file. Its values may lie in any order and be other tensors' too.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// The storage's bytes from the first value on.
    data: &'a [u8],
}

impl Tensor<'_> {
    /// Type of its numbers.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Length of each dimension; empty for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its values in row-major order, little-endian, as they are in the file.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() * self.dtype.bytes());
        self.each(|value| bytes.extend_from_slice(value));
        bytes
    }

    /// Its values in row-major order as f32: rounded to nearest where they are F64 or long whole numbers, exact otherwise.
    pub fn to_host(&self) -> HostTensor {
        let mut data = Vec::with_capacity(self.len());
        self.each(|value| data.extend(self.dtype.value(value)));
        HostTensor { shape: self.shape.clone(), data }
    }

    /// Whether values follow each other in row-major order.
    fn is_contiguous(&self) -> bool {
        let mut next = 1usize;
        let mut dimensions = self.shape.iter().zip(&self.strides).rev();
        dimensions.all(|(length, stride)| {
            let follows = *length == 1 || *stride == next;
            next = next.saturating_mul(*length);
            follows
        })
    }

    /// Calls `visit` with the bytes of each value in row-major order.
    fn each(&self, mut visit: impl FnMut(&[u8])) {
        let (count, bytes) = (self.len(), self.dtype.bytes());
        if count == 0 {
            return;
        }
        if self.is_contiguous() {
            self.data.chunks_exact(bytes).take(count).for_each(visit);
            return;
        }
        let mut index = vec![0usize; self.shape.len()];
        let mut at = 0usize;
        for _ in 0..count {
            // Every value was found to lie in the storage.
            visit(self.data.get(at * bytes..).and_then(|data| data.get(..bytes)).unwrap_or_default());
            for ((index, length), stride) in index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
                *index += 1;
                at += stride;
                if *index < *length {
                    break;
                }
                at -= stride * *length;
                *index = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(numel: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Result<View, String> {
        View::new(0, (Dtype::U8, numel), offset, shape.to_vec(), strides.to_vec())
    }

    fn values(numel: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Vec<f32> {
        let storage: Vec<u8> = (0..numel as u8).collect();
        let view = view(numel, offset, shape, strides).unwrap();
        let tensor = view.over(&[&storage]).unwrap();
        let host = tensor.to_host();
        assert_eq!(host.data.len(), tensor.len());
        assert_eq!(tensor.to_le_bytes(), host.data.iter().map(|v| *v as u8).collect::<Vec<_>>());
        host.data
    }

    #[test]
    fn values_follow_strides() {
        assert_eq!(values(6, 0, &[2, 3], &[3, 1]), [0., 1., 2., 3., 4., 5.]);
        assert_eq!(values(6, 0, &[3, 2], &[1, 3]), [0., 3., 1., 4., 2., 5.], "transposed");
        assert_eq!(values(6, 1, &[2], &[2]), [1., 3.], "every other one");
        assert_eq!(values(3, 1, &[2, 2], &[0, 1]), [1., 2., 1., 2.], "expanded");
        assert_eq!(values(6, 5, &[], &[]), [5.], "a number");
        assert_eq!(values(6, 2, &[1, 2], &[99, 1]), [2., 3.], "a stride that is never taken");
        assert_eq!(values(8, 0, &[2, 2, 2], &[1, 4, 2]), [0., 2., 4., 6., 1., 3., 5., 7.]);
        assert_eq!(values(2, 7, &[0, 3], &[3, 1]), [0.0; 0], "nothing");
    }

    #[test]
    fn no_tensor_lies_beyond_its_storage() {
        let largest = usize::MAX;
        for (numel, offset, shape, strides) in [
            (6, 0, &[7][..], &[1][..]),
            (6, 1, &[2, 3], &[3, 1]),
            (6, 0, &[2], &[6]),
            (0, 0, &[], &[]),
            (6, largest, &[2], &[1]),
            (6, 0, &[largest, largest], &[0, 0]),
            (6, 0, &[largest], &[largest]),
            (6, 0, &[2], &[1, 1]),
        ] {
            let error = view(numel, offset, shape, strides).unwrap_err();
            assert!(error.contains("has a tensor"), "{error}");
        }
        assert!(view(6, 0, &[1; 65], &[1; 65]).is_err());
    }
}
