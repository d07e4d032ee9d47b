//! Tensors that lie inside others: views of what is there, and parts that are made in their place instead of copied there.

use super::{Graph, Node, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Of a tensor the one that it lies in, and at which byte.
pub(super) type Hosts = BTreeMap<NodeId, (NodeId, u64)>;

/// The tensor that has the memory.
fn root(hosts: &Hosts, mut node: NodeId) -> NodeId {
    while let Some((host, _)) = hosts.get(&node) {
        node = *host;
    }
    node
}

impl Graph {
    fn needed_nodes<'a>(&'a self, needed: &'a [bool]) -> impl Iterator<Item = (NodeId, &'a Node)> {
        let nodes = (0u32..).map(NodeId).zip(&self.nodes).zip(needed);
        nodes.filter(|(_, needed)| **needed).map(|(node, _)| node)
    }

    /// Of each tensor whether a needed node reads it or it outlives the run; what several nodes write is read by the later ones.
    pub(super) fn read(&self, needed: &[bool]) -> Vec<bool> {
        let mut read: Vec<bool> = self.nodes.iter().map(|node| node.place.is_some()).collect();
        let mut written = vec![false; read.len()];
        for (_, node) in self.needed_nodes(needed) {
            for input in &node.inputs {
                read[input.index()] = true;
            }
            for update in &node.updates {
                read[update.index()] |= std::mem::replace(&mut written[update.index()], true);
            }
        }
        read
    }

    /// The tensors that lie in others. A part is made in its place where its memory is its own to choose, where it is the part of
    /// one tensor only, and where nothing that writes it reads another part: no launch may read and write one buffer.
    pub(super) fn hosts(&self, needed: &[bool]) -> Hosts {
        let (mut hosts, mut parts, mut twice) = (Hosts::new(), Hosts::new(), BTreeSet::new());
        for (id, node) in self.needed_nodes(needed) {
            if let (Some(offset), Some(host)) = (node.op.view(), node.inputs.first()) {
                hosts.insert(id, (*host, offset));
            }
            for (position, input) in node.inputs.iter().enumerate() {
                if let Some(offset) = node.op.part(position)
                    && parts.insert(*input, (id, offset)).is_some()
                {
                    twice.insert(*input);
                }
            }
        }
        let free = |id: &NodeId| {
            let node = self.node(*id);
            node.place.is_none() && !node.half && node.op.view().is_none()
        };
        parts.retain(|part, host| !twice.contains(part) && free(part) && free(&host.0));
        hosts.extend(parts.iter().map(|(part, host)| (*part, *host)));
        let mut elsewhere = BTreeSet::new();
        for (id, node) in self.needed_nodes(needed) {
            for part in [id].iter().chain(&node.updates).filter(|written| parts.contains_key(*written)) {
                let own = root(&hosts, *part);
                // What an operation puts together in its result it neither reads nor writes where it is made there.
                let in_place = |input: &NodeId| parts.get(input).is_some_and(|(host, _)| *host == id);
                if node.inputs.iter().any(|input| !in_place(input) && root(&hosts, *input) == own) {
                    elsewhere.insert(*part);
                }
            }
        }
        hosts.retain(|part, _| !elsewhere.contains(part));
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Launch;
    use crate::graph::{Context, Operation, Place};

    /// Puts its inputs side by side, each in 256 bytes.
    #[derive(Debug)]
    struct Join;

    impl Operation for Join {
        fn lower(&self, _context: &mut Context<'_>) -> Vec<Launch> {
            Vec::new()
        }

        fn part(&self, position: usize) -> Option<u64> {
            Some(256 * position as u64)
        }
    }

    #[derive(Debug)]
    struct Plain;

    impl Operation for Plain {
        fn lower(&self, _context: &mut Context<'_>) -> Vec<Launch> {
            Vec::new()
        }
    }

    #[test]
    fn parts_lie_in_place_where_they_can() {
        let mut graph = Graph::new();
        let given = graph.leaf(&[4], Place::whole("given"));
        let own = graph.push(Plain, vec![given], vec![4]);
        let placed = graph.push(Plain, vec![given], vec![4]);
        graph.nodes[placed.index()].place = Some(Place::whole("placed"));
        // Of a part: its writer would read and write one buffer.
        let of_part = graph.push(Plain, vec![own], vec![4]);
        let twice = graph.push(Plain, vec![given], vec![4]);
        let written = graph.reserve(&[4]);
        graph.push_updating(Plain, vec![given], vec![written], vec![4]);
        let inner = graph.push(Join, vec![own, placed, given, of_part, twice, twice, written], vec![448]);
        let outer = graph.push(Join, vec![inner], vec![448]);
        let hosts = graph.hosts(&vec![true; graph.nodes.len()]);
        let want = [(own, (inner, 0)), (written, (inner, 6 * 256)), (inner, (outer, 0))];
        assert_eq!(hosts, Hosts::from(want));
        // Nobody needs the first join any more: nothing is a part of it.
        let mut needed = vec![true; graph.nodes.len()];
        needed[inner.index()] = false;
        needed[outer.index()] = false;
        assert!(graph.hosts(&needed).is_empty());
    }

    #[test]
    fn what_nobody_reads_is_told() {
        let mut graph = Graph::new();
        let given = graph.leaf(&[4], Place::whole("given"));
        let [kept, unread] = [0, 1].map(|_| graph.reserve(&[4]));
        graph.push_updating(Plain, vec![given], vec![kept, unread], Vec::new());
        let y = graph.push(Plain, vec![kept], vec![4]);
        graph.nodes[y.index()].place = Some(Place::whole("y"));
        let read = graph.read(&graph.needed());
        assert!(read[given.index()] && read[kept.index()] && !read[unread.index()]);
    }
}
