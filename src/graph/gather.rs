//! Gradients of parameters end in sums of partial results, and in additions where a parameter was used twice: hundreds of launches
//! of a few workgroups in a training step, each of which costs a GPU more than its work. Nothing reads such a gradient before the
//! optimizer, so these sums can wait, and many of them are one launch ([`super::sums`]).
//!
//! What they read is moved into a few large buffers ("arenas"), which one launch can bind. An arena is summed up and free again
//! once it is full, so the memory this costs is bounded. Where gradients leave the device while the rest is computed, sums are made
//! as soon as there are enough of them ([`super::Graph::hand_out_early`]).

use super::arenas::Arenas;
use super::sums::{Sum, Total, grouped};
use crate::gpu::{BufferId, Launch, Slice};
use std::collections::{HashMap, HashSet};

/// A compiled graph's launches over memory that isn't planned yet: each tensor is a buffer of its own.
pub(super) struct Listing<'a> {
    pub launches: Vec<Launch>,
    /// Of each launch what it is about.
    pub shapes: Vec<String>,
    /// Launches that add two tensors, by their number.
    pub additions: Vec<usize>,
    /// Bytes of each buffer.
    pub bytes: &'a mut Vec<u64>,
    /// Buffers that are given: what lies in them is seen by others.
    pub given: HashSet<BufferId>,
    /// Bytes from which on an arena counts as full.
    pub arena: u64,
    /// Bytes of results from which on waiting sums are made.
    pub wait: u64,
    /// Most bytes that a launch may bind.
    pub most: u64,
}

/// What uses a buffer.
#[derive(Clone, Copy)]
struct Use {
    launch: usize,
    slice: Slice,
    writes: bool,
}

fn overlap(a: Slice, b: Slice) -> bool {
    a.buffer == b.buffer && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes
}

/// A sum that may wait.
struct Waiting {
    sum: Sum,
    /// The launch before which it must be made.
    deadline: usize,
    /// Of how many terms of a larger sum in the same place its result is one; 1: it is the whole.
    terms: usize,
}

impl Waiting {
    /// Whether it may not be made together with another one: its part of a larger sum must come behind the other's. Of two terms
    /// either may be the first.
    fn is_behind(&self, other: &Waiting) -> bool {
        self.terms > 2 && self.sum.y == other.sum.y && self.sum.x.buffer != other.sum.x.buffer
    }
}

/// What becomes of a launch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It is a sum, made later.
    Waits,
    /// It is an addition that its terms make superfluous.
    Folded,
}

struct Gatherer<'a> {
    list: Listing<'a>,
    uses: HashMap<BufferId, Vec<Use>>,
    fates: Vec<Fate>,
    /// Sums that take a launch's place, or can be made when it has run.
    after: Vec<Vec<Waiting>>,
}

impl Listing<'_> {
    /// The launches with sums gathered, and what each is about.
    pub(super) fn gather(self) -> (Vec<Launch>, Vec<String>) {
        let mut uses: HashMap<BufferId, Vec<Use>> = HashMap::new();
        for (launch, one) in self.launches.iter().enumerate() {
            let reads = one.reads.iter().map(|slice| (*slice, false));
            for (slice, writes) in reads.chain(one.writes.iter().map(|slice| (*slice, true))) {
                uses.entry(slice.buffer).or_default().push(Use { launch, slice, writes });
            }
        }
        let count = self.launches.len();
        let mut gatherer = Gatherer {
            list: self,
            uses,
            fates: vec![Fate::Stays; count],
            after: (0..count).map(|_| Vec::new()).collect(),
        };
        gatherer.fold_additions();
        gatherer.find_sums();
        gatherer.emit()
    }
}

impl Gatherer<'_> {
    fn uses(&self, slice: Slice) -> impl Iterator<Item = Use> + '_ {
        let of_buffer = self.uses.get(&slice.buffer).map_or(&[][..], Vec::as_slice);
        of_buffer.iter().copied().filter(move |one| overlap(one.slice, slice))
    }

    fn own(&self, slice: Slice) -> bool {
        !self.list.given.contains(&slice.buffer)
    }

    /// The launch that makes an own tensor which nothing but launch `reader` reads.
    fn made_for(&self, slice: Slice, reader: usize) -> Option<usize> {
        let mut made = None;
        for one in self.uses(slice) {
            match (one.writes, made) {
                (true, None) if one.launch < reader => made = Some(one.launch),
                (false, Some(_)) if one.launch == reader && one.slice == slice => {}
                _ => return None,
            }
        }
        made.filter(|_| self.own(slice) && !slice.half)
    }

    /// The sum that launch `index` is, where it may wait: what it reads stays as it is.
    fn lasting_sum(&self, index: usize) -> Option<Sum> {
        let sum = Sum::of(&self.list.launches[index])?;
        let stays = self.uses(sum.x).all(|one| !one.writes || one.launch < index);
        (self.own(sum.x) && stays).then_some(sum)
    }

    /// Additions whose result is seen by others and whose terms are seen by nobody else: each term is added where the result lies
    /// as soon as it is made.
    fn fold_additions(&mut self) {
        // Of each own result of an addition its terms and the additions on the way.
        let mut trees: HashMap<Slice, (Vec<Slice>, Vec<usize>)> = HashMap::new();
        for index in self.list.additions.clone() {
            let launch = &self.list.launches[index];
            let (&[a, b], &[y]) = (launch.reads.as_slice(), launch.writes.as_slice()) else { continue };
            // What is added to itself is no list of terms.
            if a == b || a.half || b.half || y.half {
                continue;
            }
            let (mut terms, mut additions) = (Vec::new(), Vec::new());
            for term in [a, b] {
                match trees.remove(&term).filter(|_| self.made_for(term, index).is_some()) {
                    Some((inner, on_the_way)) => {
                        terms.extend(inner);
                        additions.extend(on_the_way);
                    }
                    None => terms.push(term),
                }
            }
            additions.push(index);
            if self.own(y) {
                trees.insert(y, (terms, additions));
            } else {
                self.fold(&terms, &additions, y);
            }
        }
    }

    fn fold(&mut self, terms: &[Slice], additions: &[usize], y: Slice) {
        let reader = |term: Slice| {
            let reads = |addition: &&usize| self.list.launches[**addition].reads.contains(&term);
            additions.iter().find(reads).copied()
        };
        let makers: Option<Vec<usize>> =
            terms.iter().map(|term| self.made_for(*term, reader(*term)?)).collect();
        let Some(makers) = makers else { return };
        let (Some(&first), Some(&last)) = (makers.first(), additions.last()) else { return };
        // In another order the sum would have other bits, and meanwhile nobody may look.
        let ascending = makers.windows(2).all(|pair| pair[0] <= pair[1]);
        let seen = self.uses(y).any(|one| (first..last).contains(&one.launch));
        if !ascending || seen {
            return;
        }
        let deadline = self.next_use(y, last);
        for addition in additions {
            self.fates[*addition] = Fate::Folded;
        }
        for (term, maker) in terms.iter().zip(makers) {
            let sum = match self.lasting_sum(maker) {
                Some(sum) => {
                    self.fates[maker] = Fate::Waits;
                    Sum { y, ..sum }
                }
                None => Sum::copy(*term, y),
            };
            self.after[maker].push(Waiting { sum, deadline, terms: terms.len() });
        }
    }

    /// The first launch behind `index` that uses `slice`.
    fn next_use(&self, slice: Slice, index: usize) -> usize {
        let later = |one: &Use| one.launch > index && self.fates[one.launch] != Fate::Folded;
        self.uses(slice).filter(later).map(|one| one.launch).min().unwrap_or(usize::MAX)
    }

    fn find_sums(&mut self) {
        for index in 0..self.list.launches.len() {
            if self.fates[index] != Fate::Stays {
                continue;
            }
            if let Some(sum) = self.lasting_sum(index) {
                let deadline = self.next_use(sum.y, index);
                self.fates[index] = Fate::Waits;
                self.after[index].push(Waiting { sum, deadline, terms: 1 });
            }
        }
    }

    /// Buffers that can lie in an arena: waiting sums read them, none writes them, and no launch that stays would read one and
    /// write another.
    fn members(&self) -> HashSet<BufferId> {
        let waiting = || self.after.iter().flatten();
        let written: HashSet<BufferId> = waiting().map(|one| one.sum.y.buffer).collect();
        let read: HashSet<BufferId> = waiting().map(|one| one.sum.x.buffer).collect();
        let mut members: HashSet<BufferId> = read.difference(&written).copied().collect();
        // Those that only the sums read are in nobody's way; the others stay out where they are in one's.
        let staying = || (0..self.fates.len()).filter(|index| self.fates[*index] == Fate::Stays);
        let mut read_by_others: Vec<BufferId> = Vec::new();
        for index in staying() {
            let of_sums = self.list.launches[index].reads.iter().map(|slice| slice.buffer);
            read_by_others.extend(of_sums.filter(|buffer| members.contains(buffer)));
        }
        read_by_others.sort_unstable();
        read_by_others.dedup();
        for buffer in read_by_others {
            let conflict = staying().any(|index| {
                let Launch { reads, writes, .. } = &self.list.launches[index];
                let uses = |slices: &[Slice]| slices.iter().any(|slice| slice.buffer == buffer);
                let others = |slices: &[Slice]| {
                    slices.iter().any(|slice| slice.buffer != buffer && members.contains(&slice.buffer))
                };
                (uses(reads) && others(writes)) || (uses(writes) && others(reads))
            });
            if conflict {
                members.remove(&buffer);
            }
        }
        members
    }

    fn emit(mut self) -> (Vec<Launch>, Vec<String>) {
        let members = self.members();
        let mut arenas = Arenas::default();
        let mut out = Emitted { launches: Vec::new(), shapes: Vec::new(), started: HashSet::new() };
        let mut waiting: Vec<Waiting> = Vec::new();
        let launches = std::mem::take(&mut self.list.launches);
        for (index, mut launch) in launches.into_iter().enumerate() {
            if waiting.iter().any(|one| one.deadline <= index) {
                out.flush(&mut waiting, self.list.most);
            }
            if self.fates[index] == Fate::Stays {
                for slice in launch.writes.iter().filter(|slice| members.contains(&slice.buffer)) {
                    if arenas.admit(slice.buffer, self.list.bytes, self.list.arena) {
                        out.flush(&mut waiting, self.list.most);
                    }
                }
                for slice in launch.reads.iter_mut().chain(&mut launch.writes) {
                    arenas.move_to(slice);
                }
                out.launches.push(launch);
                out.shapes.push(std::mem::take(&mut self.list.shapes[index]));
            }
            for mut one in std::mem::take(&mut self.after[index]) {
                arenas.move_to(&mut one.sum.x);
                if waiting.iter().any(|other| one.is_behind(other)) {
                    out.flush(&mut waiting, self.list.most);
                }
                waiting.push(one);
            }
            if waiting.iter().map(|one| one.sum.y.bytes).sum::<u64>() >= self.list.wait {
                out.flush(&mut waiting, self.list.most);
            }
        }
        out.flush(&mut waiting, self.list.most);
        (out.launches, out.shapes)
    }
}

struct Emitted {
    launches: Vec<Launch>,
    shapes: Vec<String>,
    /// Results that hold a part of their sum.
    started: HashSet<Slice>,
}

impl Emitted {
    /// Makes all sums that wait, those of one buffer into one other together.
    fn flush(&mut self, waiting: &mut Vec<Waiting>, most: u64) {
        let mut groups: Vec<((BufferId, BufferId), Vec<Total>)> = Vec::new();
        for Waiting { sum, terms, .. } in waiting.drain(..) {
            let key = (sum.x.buffer, sum.y.buffer);
            let number = groups.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                groups.push((key, Vec::new()));
                groups.len() - 1
            });
            let totals = &mut groups[number].1;
            match totals.iter_mut().find(|total| terms > 1 && total.y == sum.y) {
                Some(total) => total.parts.push(sum),
                // Whether the place holds a part of the sum is told below, in the order of launches.
                None => totals.push(Total { y: sum.y, parts: vec![sum], onto: terms > 1 }),
            }
        }
        for (_, mut totals) in groups {
            for total in totals.iter_mut().filter(|total| total.onto) {
                total.onto = !self.started.insert(total.y);
            }
            let made = grouped(&totals, most);
            let results = totals.len();
            self.shapes.resize(self.shapes.len() + made.len(), format!("{results} sums"));
            self.launches.extend(made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Kernel;

    const MIB: u64 = 1 << 20;
    /// The buffer that others see.
    const GIVEN: BufferId = BufferId(0);

    fn slice(buffer: u32, offset: u64, bytes: u64) -> Slice {
        Slice { buffer: BufferId(buffer), offset, bytes, half: false }
    }

    fn launch(file: &'static str, reads: &[Slice], writes: &[Slice]) -> Launch {
        Launch {
            kernel: Kernel { file, source: "", entry: "e", constants: Vec::new(), halves: Vec::new() },
            reads: reads.to_vec(),
            writes: writes.to_vec(),
            uniform: Vec::new(),
            workgroups: [1; 3],
            multiply_adds: 0,
            spare: 0,
        }
    }

    /// The sum of the two halves of a buffer of `bytes` bytes.
    fn halves(buffer: u32, bytes: u64, y: Slice) -> Launch {
        let quads = (bytes / 32) as usize;
        Sum { rows: 2, quads, stride: quads, first: 0, x: slice(buffer, 0, bytes), y, copies: false }
            .launch(1)
    }

    /// Files of the launches that come out, and bytes of the buffers afterwards.
    fn gathered(
        launches: Vec<Launch>,
        additions: &[usize],
        bytes: &[u64],
    ) -> (Vec<Launch>, Vec<&'static str>, Vec<u64>) {
        waiting_for(u64::MAX, launches, additions, bytes)
    }

    /// The same where `wait` bytes of results are enough.
    fn waiting_for(
        wait: u64,
        launches: Vec<Launch>,
        additions: &[usize],
        bytes: &[u64],
    ) -> (Vec<Launch>, Vec<&'static str>, Vec<u64>) {
        let mut bytes = bytes.to_vec();
        let list = Listing {
            shapes: vec![String::new(); launches.len()],
            launches,
            additions: additions.to_vec(),
            bytes: &mut bytes,
            given: HashSet::from([GIVEN]),
            arena: 32 * MIB,
            wait,
            most: 128 * MIB,
        };
        let (launches, shapes) = list.gather();
        assert_eq!(launches.len(), shapes.len());
        let files = launches.iter().map(|one| one.kernel.file).collect();
        (launches, files, bytes)
    }

    #[test]
    fn sums_wait_until_an_arena_is_full() {
        let bytes = 10 * MIB;
        let mut launches = Vec::new();
        for number in 1..6 {
            launches.push(launch("part", &[], &[slice(number, 0, bytes)]));
            launches.push(halves(number, bytes, slice(0, u64::from(number) * bytes, bytes / 2)));
        }
        let (launches, files, sizes) =
            gathered(launches, &[], &[100 * MIB, bytes, bytes, bytes, bytes, bytes]);
        assert_eq!(files, ["part", "part", "part", "sum_groups", "part", "part", "sum_groups"]);
        assert_eq!(sizes[6..], [3 * bytes, 2 * bytes], "two arenas");
        assert_eq!(launches[2].writes[0], slice(6, 2 * bytes, bytes));
        assert_eq!(launches[3].reads[0], slice(6, 0, 3 * bytes));
        assert_eq!(launches[6].writes[0], slice(0, 4 * bytes, bytes + bytes / 2));
    }

    #[test]
    fn sums_are_made_as_soon_as_enough_of_them_wait() {
        let mut launches = Vec::new();
        for number in 1..6 {
            launches.push(launch("part", &[], &[slice(number, 0, 512)]));
            launches.push(halves(number, 512, slice(0, u64::from(number) * 256, 256)));
        }
        let (launches, files, _) = waiting_for(512, launches, &[], &[4096, 512, 512, 512, 512, 512]);
        let want = ["part", "part", "sum_groups", "part", "part", "sum_groups", "part", "reduce_rows"];
        assert_eq!(files, want);
        assert_eq!(launches[5].writes[0], slice(0, 3 * 256, 2 * 256));
    }

    #[test]
    fn what_reads_a_result_finds_it_made() {
        let y = |number: u64| slice(0, 256 * number, 128);
        let launches = vec![
            launch("part", &[], &[slice(1, 0, 256)]),
            halves(1, 256, y(0)),
            launch("part", &[], &[slice(2, 0, 256)]),
            halves(2, 256, y(1)),
            launch("reader", &[y(1)], &[slice(3, 0, 16)]),
            launch("part", &[], &[slice(4, 0, 256)]),
            halves(4, 256, y(2)),
        ];
        let (_, files, _) = gathered(launches, &[], &[4096, 256, 256, 16, 256]);
        // The last one is alone.
        assert_eq!(files, ["part", "part", "sum_groups", "reader", "part", "reduce_rows"]);
    }

    #[test]
    fn an_addition_becomes_a_part_of_the_sum_or_is_added_to_it() {
        for (bytes, want) in [
            (MIB, &["part", "part", "sum_groups"][..]),
            // In two arenas.
            (20 * MIB, &["part", "reduce_rows", "part", "sum_groups"]),
        ] {
            let term = |number| slice(number, 0, bytes / 2);
            let launches = vec![
                launch("part", &[], &[slice(1, 0, bytes)]),
                halves(1, bytes, term(2)),
                launch("part", &[], &[slice(3, 0, bytes)]),
                halves(3, bytes, term(4)),
                launch("add", &[term(2), term(4)], &[slice(0, 0, bytes / 2)]),
            ];
            let sizes = [bytes / 2, bytes, bytes / 2, bytes, bytes / 2];
            let (launches, files, _) = gathered(launches, &[4], &sizes);
            assert_eq!(files, want);
            assert!(launches.iter().flat_map(|one| &one.reads).all(|read| read.buffer > BufferId(4)));
        }
    }

    #[test]
    fn additions_that_others_look_at_stay() {
        let (a, b, sum) = (slice(1, 0, 64), slice(2, 0, 64), slice(0, 0, 64));
        let made = || vec![launch("a", &[], &[a]), launch("b", &[], &[b])];
        let sizes = [64, 64, 64, 64];
        // Nobody does: both terms are copied where the sum lies, as they come.
        let mut launches = made();
        launches.push(launch("add", &[a, b], &[sum]));
        assert_eq!(gathered(launches.clone(), &[2], &sizes).1, ["a", "b", "sum_groups"]);
        // A term is read by another launch.
        launches.push(launch("reader", &[a], &[slice(3, 0, 64)]));
        assert_eq!(gathered(launches, &[2], &sizes).1, ["a", "b", "add", "reader"]);
        // The place of the sum is read meanwhile.
        let mut launches = vec![launch("a", &[], &[a]), launch("reader", &[sum], &[slice(3, 0, 64)])];
        launches.extend([launch("b", &[], &[b]), launch("add", &[a, b], &[sum])]);
        assert_eq!(gathered(launches, &[3], &sizes).1, ["a", "reader", "b", "add"]);
    }

    #[test]
    fn what_a_launch_would_read_and_write_stays_apart() {
        // One launch reads the first sum's source and writes the second one's.
        let launches = vec![
            launch("part", &[], &[slice(1, 0, 256)]),
            halves(1, 256, slice(0, 0, 128)),
            launch("both", &[slice(1, 0, 256)], &[slice(2, 0, 256)]),
            halves(2, 256, slice(0, 256, 128)),
        ];
        let (launches, files, _) = gathered(launches, &[], &[4096, 256, 256]);
        assert_eq!(files, ["part", "both", "reduce_rows", "reduce_rows"]);
        assert_ne!(launches[1].reads[0].buffer, launches[1].writes[0].buffer);
    }
}
