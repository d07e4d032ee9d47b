//! A graph as an ONNX file: the messages of `onnx.proto`, by their numbers.

use super::graph::{BATCH, Constant, Graph, Node, Port, Value};
use super::operator::OPSET;
use crate::io::proto::Message;

/// The version of the format: the one of opset 15 to 18.
const IR: i64 = 8;

/// What is said of the whole file.
pub struct Description {
    /// The graph's name.
    pub name: String,
    /// What it computes, for people.
    pub doc: String,
    /// What programs need to use it: texts by key.
    pub properties: Vec<(&'static str, String)>,
}

/// The bytes of a file.
pub fn encode(graph: &Graph, about: &Description) -> Vec<u8> {
    let mut model = Message::default();
    model.number(1, IR);
    model.text(2, "duet");
    model.text(3, env!("CARGO_PKG_VERSION"));
    model.text(6, &about.doc);
    let mut opset = Message::default();
    opset.number(2, OPSET);
    model.message(8, &opset);
    for (key, value) in &about.properties {
        let mut property = Message::default();
        property.text(1, key);
        property.text(2, value);
        model.message(14, &property);
    }
    model.message(7, &graph_message(graph, about));
    model.into_bytes()
}

fn graph_message(graph: &Graph, about: &Description) -> Message {
    let mut message = Message::default();
    for node in &graph.nodes {
        message.message(1, &node_message(graph, node));
    }
    message.text(2, &about.name);
    for constant in &graph.constants {
        message.message(5, &constant_message(graph, constant));
    }
    for (field, ports) in [(11, &graph.inputs), (12, &graph.outputs)] {
        for Port { value, doc } in ports {
            message.message(field, &value_message(graph, *value, doc));
        }
    }
    let outputs: Vec<Value> = graph.outputs.iter().map(|port| port.value).collect();
    for value in graph.nodes.iter().flat_map(|node| &node.outputs).filter(|value| !outputs.contains(value)) {
        message.message(13, &value_message(graph, *value, ""));
    }
    message
}

fn node_message(graph: &Graph, node: &Node) -> Message {
    let mut message = Message::default();
    for input in &node.inputs {
        // An operand that is not there is an empty name, which keeps its place.
        message.bytes(1, input.map_or("", |value| &graph.tensor(value).name).as_bytes());
    }
    for output in &node.outputs {
        message.text(2, &graph.tensor(*output).name);
    }
    message.text(3, &graph.tensor(node.outputs[0]).name);
    message.text(4, node.operator.name());
    let rank = node.inputs.first().copied().flatten().map_or(0, |value| graph.shape(value).len());
    for attribute in node.operator.attributes(rank) {
        message.message(5, &attribute);
    }
    message
}

fn constant_message(graph: &Graph, constant: &Constant) -> Message {
    let tensor = graph.tensor(constant.value);
    let mut message = Message::default();
    tensor.shape.iter().for_each(|length| message.number(1, *length as i64));
    message.number(2, tensor.element.number());
    message.text(8, &tensor.name);
    message.bytes(9, &constant.bytes);
    message
}

fn value_message(graph: &Graph, value: Value, doc: &str) -> Message {
    let tensor = graph.tensor(value);
    let mut shape = Message::default();
    for length in &tensor.shape {
        let mut dimension = Message::default();
        match *length {
            BATCH => dimension.text(2, "N"),
            length => dimension.number(1, length as i64),
        }
        shape.message(1, &dimension);
    }
    let (mut kind, mut of) = (Message::default(), Message::default());
    of.number(1, tensor.element.number());
    of.message(2, &shape);
    kind.message(1, &of);
    let mut message = Message::default();
    message.text(1, &tensor.name);
    message.message(2, &kind);
    message.text(3, doc);
    message
}
