//! Matrices that the subgroups of a GPU multiply themselves (cooperative matrices, tensor cores): who may use them and where they are.

use std::borrow::Cow;

/// What may happen to the factors of matrix products and convolutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// They are f32.
    #[default]
    F32,
    /// They may be rounded to f16, whose products are summed in f32, where the adapter has units for that (Vulkan's
    /// cooperative matrices of 16×16, Metal's of 8×8). Results are then right to a thousandth of their size; a factor beyond 65,504
    /// makes them infinite. Devices without such units compute in f32. Gradients take part where they are stored as f16
    /// (training with `precision = "f16"`), for the loss's scale keeps those in range.
    F16,
}

/// What shaders need whose subgroups multiply matrices.
fn features() -> wgpu::Features {
    let matrices = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    matrices | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP
}

/// Rows and columns of the matrices of f16 with sums of f32 that an adapter multiplies: 16, else 8. `None`: it has neither, or the
/// workgroups of 64 that our shaders have are no whole subgroups.
fn side(adapter: &wgpu::Adapter) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    if !adapter.features().contains(features()) || !(1..=64).contains(&adapter.get_info().subgroup_max_size) {
        return None;
    }
    let have = adapter.cooperative_matrix_properties();
    let has = |side: &u32| {
        let mut of_f16 = have.iter().filter(|one| (one.ab_type, one.cr_type) == (F16, F32));
        of_f16.any(|one| [one.m_size, one.n_size, one.k_size] == [*side; 3])
    };
    [16, 8].into_iter().find(has)
}

/// What to ask an adapter for: the side of its matrices, the features and the leave; nothing where it has none or they are not wanted.
pub(super) fn wanted(
    adapter: &wgpu::Adapter,
    precision: MatmulPrecision,
) -> (Option<u32>, wgpu::Features, wgpu::ExperimentalFeatures) {
    let side = (precision == MatmulPrecision::F16).then(|| side(adapter)).flatten();
    if side.is_none() {
        return (None, wgpu::Features::empty(), wgpu::ExperimentalFeatures::disabled());
    }
    // SAFETY: nothing experimental is asked for but these matrices. Our shaders load them from workgroup memory and store them there,
    // at constant places within blocks that hold them whole.
    let leave = unsafe { wgpu::ExperimentalFeatures::enabled() };
    (side, features(), leave)
}

/// Between these lines a shader has what it does with matrices of 16 × 16.
const MARKS: [&str; 2] = ["// Matrices,", "// End of matrices."];

/// The same of four matrices of 8 × 8 each: two rows of two.
const OF_EIGHT: &str = "\
alias LeftPart = coop_mat8x8<f16, A>;
alias RightPart = coop_mat8x8<f16, B>;
alias SumPart = coop_mat8x8<f32, C>;

struct Left {
    p00: LeftPart,
    p01: LeftPart,
    p10: LeftPart,
    p11: LeftPart,
}

struct Right {
    p00: RightPart,
    p01: RightPart,
    p10: RightPart,
    p11: RightPart,
}

struct Sum {
    p00: SumPart,
    p01: SumPart,
    p10: SumPart,
    p11: SumPart,
}

fn zero() -> Sum {
    return Sum(
        SumPart(),
        SumPart(),
        SumPart(),
        SumPart(),
    );
}

fn load_left(block: u32) -> Left {
    return Left(
        coopLoadT<LeftPart>(&left_tile[block][0][0][0], 4u * FACTOR_PITCH),
        coopLoadT<LeftPart>(&left_tile[block][0][2][0], 4u * FACTOR_PITCH),
        coopLoadT<LeftPart>(&left_tile[block][8][0][0], 4u * FACTOR_PITCH),
        coopLoadT<LeftPart>(&left_tile[block][8][2][0], 4u * FACTOR_PITCH),
    );
}

fn load_right(block: u32) -> Right {
    return Right(
        coopLoad<RightPart>(&right_tile[block][0][0][0], 4u * FACTOR_PITCH),
        coopLoad<RightPart>(&right_tile[block][8][0][0], 4u * FACTOR_PITCH),
        coopLoad<RightPart>(&right_tile[block][0][2][0], 4u * FACTOR_PITCH),
        coopLoad<RightPart>(&right_tile[block][8][2][0], 4u * FACTOR_PITCH),
    );
}

fn add_product(sum: Sum, left: Left, right: Right) -> Sum {
    return Sum(
        coopMultiplyAdd(left.p01, right.p10, coopMultiplyAdd(left.p00, right.p00, sum.p00)),
        coopMultiplyAdd(left.p01, right.p11, coopMultiplyAdd(left.p00, right.p01, sum.p01)),
        coopMultiplyAdd(left.p11, right.p10, coopMultiplyAdd(left.p10, right.p00, sum.p10)),
        coopMultiplyAdd(left.p11, right.p11, coopMultiplyAdd(left.p10, right.p01, sum.p11)),
    );
}

fn keep(sum: Sum, band: u32, quad: u32) {
    coopStoreT(sum.p00, &sum_tile[band][0][quad][0], 4u * SUM_PITCH);
    coopStoreT(sum.p01, &sum_tile[band][0][quad + 2u][0], 4u * SUM_PITCH);
    coopStoreT(sum.p10, &sum_tile[band][8][quad][0], 4u * SUM_PITCH);
    coopStoreT(sum.p11, &sum_tile[band][8][quad + 2u][0], 4u * SUM_PITCH);
}
";

/// A shader's text for matrices of 8 × 8; one without matrices stays as it is.
pub fn with_matrices_of_eight(text: &str) -> Cow<'_, str> {
    let (Some(begin), Some(end)) = (text.find(MARKS[0]), text.find(MARKS[1])) else { return text.into() };
    let begin = text[begin..].find('\n').map_or(end, |line| begin + line + 1);
    [&text[..begin], OF_EIGHT, &text[end..]].concat().into()
}
