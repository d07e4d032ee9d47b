//! What an operation's kernel can do while it loads its input needs no launch of its own: a tensor whose readers can all make it
//! by themselves ([`super::Operation::absorb`]) is not made at all. Which of them can depends on the families of kernels, so
//! this happens when a graph is compiled; what differentiates it sees the operations as they were added.

use super::{Graph, Node, NodeId, Operation};
use crate::families::Choices;
use std::sync::Arc;

/// A reader, and what it becomes.
type Change = (usize, Arc<dyn Operation>, Vec<NodeId>);

impl Graph {
    /// The graph in the families of `choices`, with operations in their readers where those can do them.
    pub(super) fn absorbed(&self, choices: &Choices) -> Graph {
        let mut graph = self.clone();
        let needed = graph.needed();
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.nodes.len()];
        let mut updated = vec![false; graph.nodes.len()];
        for (index, node) in graph.nodes.iter().enumerate().filter(|(index, _)| needed[*index]) {
            for input in &node.inputs {
                let list = &mut readers[input.index()];
                // One that reads a tensor twice is listed once.
                if list.last() != Some(&index) {
                    list.push(index);
                }
            }
            node.updates.iter().for_each(|update| updated[update.index()] = true);
        }
        for (maker, readers) in readers.iter().enumerate() {
            let node = &graph.nodes[maker];
            let own = node.place.is_none() && node.updates.is_empty() && !updated[maker];
            if !needed[maker] || node.is_memory() || !own {
                continue;
            }
            let Some(changes) = graph.changes(maker, readers, &needed, choices) else { continue };
            for (reader, op, inputs) in changes {
                let node = &mut graph.nodes[reader];
                (node.op, node.inputs) = (op, inputs);
            }
        }
        graph
    }

    /// What the readers of a tensor become that make it by themselves; `None`: one of them cannot.
    fn changes(
        &self,
        maker: usize,
        readers: &[usize],
        needed: &[bool],
        choices: &Choices,
    ) -> Option<Vec<Change>> {
        let made = &self.nodes[maker];
        let last = *readers.iter().max()?;
        if !self.stays(made, maker, last, needed) {
            return None;
        }
        let change = |reader: &usize| {
            let node = &self.nodes[*reader];
            let of_maker = |input: &NodeId| input.index() == maker;
            let position = node.inputs.iter().position(of_maker)?;
            let (op, inputs) = node.op.absorb(&node.inputs, position, made, choices)?;
            // It may be read in another place too, and what is stored as f16 stays so.
            let mut halves = inputs.iter().enumerate().filter(|(_, input)| self.node(**input).half);
            let stored = halves.all(|(position, _)| op.reads_half(position))
                && (!node.half || op.writes_half())
                && !node.updates.iter().any(|update| self.node(*update).half);
            (stored && !inputs.iter().any(of_maker)).then_some((*reader, op, inputs))
        };
        readers.iter().map(change).collect()
    }

    /// Whether nothing from behind `maker` to `last` writes what `made` reads.
    fn stays(&self, made: &Node, maker: usize, last: usize, needed: &[bool]) -> bool {
        let writes = (maker + 1..=last).filter(|index| needed[*index] && !self.nodes[*index].is_memory());
        let mut written = writes.flat_map(|index| {
            [NodeId(index as u32)].into_iter().chain(self.nodes[index].updates.iter().copied())
        });
        let buffer = |node: NodeId| self.node(node).place.as_ref().map(|place| &place.buffer);
        !written.any(|tensor| {
            let mut read = made.inputs.iter();
            read.any(|input| {
                *input == tensor || (buffer(tensor).is_some() && buffer(*input) == buffer(tensor))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Launch;
    use crate::graph::{Context, Place};

    /// Is made by its readers.
    #[derive(Debug)]
    struct Small;

    /// Makes small ones by itself.
    #[derive(Debug)]
    struct Able;

    /// Reads them alone.
    #[derive(Debug)]
    struct Unable;

    impl Operation for Small {
        fn lower(&self, _context: &mut Context<'_>) -> Vec<Launch> {
            Vec::new()
        }
    }

    impl Operation for Unable {
        fn lower(&self, _context: &mut Context<'_>) -> Vec<Launch> {
            Vec::new()
        }
    }

    impl Operation for Able {
        fn lower(&self, _context: &mut Context<'_>) -> Vec<Launch> {
            Vec::new()
        }

        fn absorb(
            &self,
            inputs: &[NodeId],
            position: usize,
            maker: &Node,
            _choices: &Choices,
        ) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
            maker.op.downcast_ref::<Small>()?;
            let mut inputs = inputs.to_vec();
            inputs.splice(position..=position, maker.inputs.iter().copied());
            Some((Arc::new(Able), inputs))
        }
    }

    /// A graph with a given tensor and a small one of it.
    fn begin() -> (Graph, NodeId, NodeId) {
        let mut graph = Graph::new();
        let given = graph.leaf(&[4], Place::whole("given"));
        let small = graph.push(Small, vec![given], vec![4]);
        (graph, given, small)
    }

    fn end(graph: &mut Graph, op: impl Operation, inputs: Vec<NodeId>, name: &str) -> NodeId {
        let node = graph.push(op, inputs, vec![4]);
        graph.place(node, Place::whole(name));
        node
    }

    /// Whether a compiled graph makes `small`.
    fn makes(graph: &Graph, small: NodeId) -> bool {
        graph.absorbed(&Choices::default()).needed()[small.index()]
    }

    #[test]
    fn a_tensor_is_made_by_all_its_readers_or_by_none() {
        let (mut graph, given, small) = begin();
        let first = end(&mut graph, Able, vec![given, small], "first");
        end(&mut graph, Able, vec![small], "second");
        assert!(!makes(&graph, small));
        assert_eq!(graph.absorbed(&Choices::default()).node(first).inputs, [given, given]);
        end(&mut graph, Unable, vec![small], "third");
        assert!(makes(&graph, small));
    }

    #[test]
    fn what_is_seen_by_others_is_made() {
        for name in ["placed", "twice", "updated"] {
            let (mut graph, given, small) = begin();
            match name {
                "placed" => {
                    graph.place(small, Place::whole("small"));
                }
                "updated" => {
                    graph.push_updating(Unable, vec![given], vec![small], vec![4]);
                }
                _ => {}
            }
            let inputs = if name == "twice" { vec![small, small] } else { vec![small] };
            end(&mut graph, Able, inputs, "end");
            assert!(makes(&graph, small), "{name}");
        }
    }

    #[test]
    fn what_it_reads_must_stay() {
        for (between, stays) in [("given", false), ("elsewhere", true)] {
            let (mut graph, given, small) = begin();
            end(&mut graph, Unable, vec![given], between);
            end(&mut graph, Able, vec![small], "end");
            assert_eq!(makes(&graph, small), !stays, "{between}");
            // A reader must not write it either.
            let (mut graph, _, small) = begin();
            end(&mut graph, Able, vec![small], between);
            assert_eq!(makes(&graph, small), !stays, "{between}");
        }
    }
}
