//! Sums of a workgroup by what its subgroups add themselves, for GPUs: a subgroup's share is one instruction a level instead of a
//! barrier a level.

use std::borrow::Cow;

/// From this mark to the function's end a shader joins what the invocations of a workgroup have, in a tree.
const MARK: &str = "    // Joining,";

/// How entry points of such shaders begin, and what they are told besides.
const ENTRY: [&str; 2] = [
    "    @builtin(local_invocation_index) invocation: u32,\n) {\n",
    "    @builtin(local_invocation_index) invocation: u32,
    @builtin(subgroup_id) subgroup_id: u32,
    @builtin(num_subgroups) num_subgroups: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
    subgroup = Subgroup(subgroup_id, num_subgroups, subgroup_lane);
",
];

const SUBGROUP: &str = "
// Its number in the workgroup, how many there are, and the invocation's number in it.
struct Subgroup {
    number: u32,
    count: u32,
    lane: u32,
}

var<private> subgroup: Subgroup;
";

/// Of means and sums of squared deviations. A subgroup's own mean comes first, as what its invocations' means are apart from the
/// first one's, so that nothing cancels at large means and equal values have no deviation.
const MOMENTS: &str = "\
        let count = f32(lane.count);
        let all = subgroupAdd(count);
        let near = subgroupBroadcastFirst(mean);
        let whole = near + subgroupAdd(select(vec4<f32>(0.0), mean - near, count > 0.0) * (count / max(all, 1.0)));
        let apart = mean - whole;
        let spread = subgroupAdd(select(vec4<f32>(0.0), squares + apart * apart * count, count > 0.0));
        if subgroup.lane == 0u {
            tree_a[subgroup.number] = whole;
            tree_b[subgroup.number] = spread;
            counts[subgroup.number] = all;
        }
        workgroupBarrier();
        if invocation == 0u {
            // One without pixels has nothing to add, not even to what overflows.
            let first = tree_a[0];
            var total = 0.0;
            var shift = vec4<f32>(0.0);
            for (var other = 0u; other < subgroup.count; other += 1u) {
                let part = counts[other];
                total += part;
                shift += select(vec4<f32>(0.0), (tree_a[other] - first) * part, part > 0.0);
            }
            let joined = first + shift / total;
            var joined_squares = vec4<f32>(0.0);
            for (var other = 0u; other < subgroup.count; other += 1u) {
                let part = counts[other];
                let off = tree_a[other] - joined;
                joined_squares += select(vec4<f32>(0.0), tree_b[other] + off * off * part, part > 0.0);
            }
            tree_a[0] = joined;
            tree_b[0] = joined_squares;
        }
";

/// Of two sums.
const SUMS: &str = "\
        let whole_a = subgroupAdd(sum_a);
        let whole_b = subgroupAdd(sum_b);
        if subgroup.lane == 0u {
            tree_a[subgroup.number] = whole_a;
            tree_b[subgroup.number] = whole_b;
        }
        workgroupBarrier();
        if invocation == 0u {
            var joined_a = tree_a[0];
            var joined_b = tree_b[0];
            for (var other = 1u; other < subgroup.count; other += 1u) {
                joined_a += tree_a[other];
                joined_b += tree_b[other];
            }
            tree_a[0] = joined_a;
            tree_b[0] = joined_b;
        }
";

/// A shader's text with sums of subgroups where all invocations of a workgroup have one vec4 in common (its tree otherwise); a shader
/// that joins nothing stays as it is. Subgroups may be of any size.
pub fn with_subgroup_sums(text: &str) -> Cow<'_, str> {
    let Some(begin) = text.find(MARK) else { return text.into() };
    let end = text[begin..].find("\n}\n").map_or(text.len(), |length| begin + length + 1);
    let tree = &text[begin..end];
    let (sums, counts) = match tree.contains("squares") {
        true => (MOMENTS, "var<workgroup> counts: array<f32, WG>;\n"),
        false => (SUMS, ""),
    };
    let (before, after) = (&text[..begin], &text[end..]);
    let joined = [before, "    if chunk.width == 1u {\n", sums, "    } else {\n", tree, "    }\n", after];
    [&joined.concat().replace(ENTRY[0], ENTRY[1]), SUBGROUP, counts].concat().into()
}
