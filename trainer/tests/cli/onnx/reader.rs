//! Reads ONNX files, by the numbers of `onnx.proto` and by no code of the program.

use std::collections::BTreeMap;

/// A field of a message.
#[derive(Clone, Debug)]
enum Field {
    Number(i64),
    Bytes(Vec<u8>),
    Float(f32),
}

impl Field {
    fn number(&self) -> i64 {
        match self {
            Field::Number(value) => *value,
            other => panic!("no number: {other:?}"),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Field::Bytes(value) => value,
            other => panic!("no bytes: {other:?}"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}

/// A message's fields by number, in their order.
#[derive(Debug, Default)]
struct Message(Vec<(u64, Field)>);

impl Message {
    fn read(mut data: &[u8]) -> Message {
        fn varint(data: &mut &[u8]) -> u64 {
            let end = data.iter().position(|byte| *byte < 0x80).unwrap();
            let (number, rest) = data.split_at(end + 1);
            *data = rest;
            number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
        }
        let mut list = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            let field = match key & 7 {
                0 => Field::Number(varint(&mut data) as i64),
                2 => {
                    let length = varint(&mut data) as usize;
                    let (value, rest) = data.split_at(length);
                    data = rest;
                    Field::Bytes(value.to_vec())
                }
                5 => {
                    let (value, rest) = data.split_at(4);
                    data = rest;
                    Field::Float(f32::from_le_bytes(value.try_into().unwrap()))
                }
                other => panic!("wire type {other}"),
            };
            list.push((key >> 3, field));
        }
        Message(list)
    }

    fn all(&self, number: u64) -> impl Iterator<Item = &Field> {
        self.0.iter().filter(move |(found, _)| *found == number).map(|(_, field)| field)
    }

    fn one(&self, number: u64) -> Option<&Field> {
        let mut fields = self.all(number);
        let first = fields.next();
        assert!(fields.next().is_none(), "field {number} is there twice");
        first
    }

    fn text(&self, number: u64) -> String {
        self.one(number).map_or(String::new(), Field::text)
    }

    fn messages(&self, number: u64) -> Vec<Message> {
        self.all(number).map(|field| Message::read(field.bytes())).collect()
    }

    fn texts(&self, number: u64) -> Vec<String> {
        self.all(number).map(Field::text).collect()
    }
}

/// A length of a shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Length {
    Fixed(usize),
    Named(String),
}

/// What a file says of a tensor.
#[derive(Clone, Debug)]
pub struct Declared {
    pub element: i64,
    pub shape: Vec<Length>,
    pub doc: String,
}

/// An attribute of a node.
#[derive(Clone, Debug, Default)]
pub struct Attribute {
    pub int: i64,
    pub float: f32,
    pub text: String,
    pub ints: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub operator: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: BTreeMap<String, Attribute>,
}

/// A constant; numbers of any type as f64.
#[derive(Clone, Debug)]
pub struct Constant {
    pub element: i64,
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// A file.
#[derive(Debug)]
pub struct Model {
    pub ir: i64,
    pub opset: i64,
    pub properties: BTreeMap<String, String>,
    pub nodes: Vec<Node>,
    pub constants: BTreeMap<String, Constant>,
    /// In the file's order.
    pub inputs: Vec<(String, Declared)>,
    pub outputs: Vec<(String, Declared)>,
    /// What is between them.
    pub inner: BTreeMap<String, Declared>,
}

fn declared(message: &Message) -> (String, Declared) {
    let [kind] = &message.messages(2)[..] else { panic!("{message:?}") };
    let [tensor] = &kind.messages(1)[..] else { panic!("{message:?}") };
    let [shape] = &tensor.messages(2)[..] else { panic!("{message:?}") };
    let length = |dimension: Message| match dimension.one(1) {
        Some(field) => Length::Fixed(field.number() as usize),
        None => Length::Named(dimension.text(2)),
    };
    let shape = shape.messages(1).into_iter().map(length).collect();
    (message.text(1), Declared { element: tensor.one(1).unwrap().number(), shape, doc: message.text(3) })
}

fn attribute(message: &Message) -> (String, Attribute) {
    let mut value = Attribute::default();
    match message.one(20).unwrap().number() {
        1 => match message.one(2) {
            Some(Field::Float(float)) => value.float = *float,
            other => panic!("{other:?}"),
        },
        2 => value.int = message.one(3).unwrap().number(),
        3 => value.text = message.text(4),
        7 => value.ints = message.all(8).map(|field| field.number() as usize).collect(),
        other => panic!("attribute of type {other}"),
    }
    (message.text(1), value)
}

fn constant(message: &Message) -> (String, Constant) {
    let shape: Vec<usize> = message.all(1).map(|field| field.number() as usize).collect();
    let element = message.one(2).unwrap().number();
    let bytes = message.one(9).unwrap().bytes();
    let data: Vec<f64> = match element {
        1 => bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
        7 => bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        10 => {
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect()
        }
        other => panic!("constant of type {other}"),
    };
    assert_eq!(data.len(), shape.iter().product::<usize>(), "{}", message.text(8));
    (message.text(8), Constant { element, shape, data })
}

impl Model {
    pub fn read(bytes: &[u8]) -> Model {
        let model = Message::read(bytes);
        let [opset] = &model.messages(8)[..] else { panic!("not one set of operators") };
        let [graph] = &model.messages(7)[..] else { panic!("not one graph") };
        assert_eq!(model.text(2), "duet");
        let node = |message: Message| Node {
            operator: message.text(4),
            inputs: message.texts(1),
            outputs: message.texts(2),
            attributes: message.messages(5).iter().map(attribute).collect(),
        };
        Model {
            ir: model.one(1).unwrap().number(),
            opset: opset.one(2).unwrap().number(),
            properties: model.messages(14).iter().map(|m| (m.text(1), m.text(2))).collect(),
            nodes: graph.messages(1).into_iter().map(node).collect(),
            constants: graph.messages(5).iter().map(constant).collect(),
            inputs: graph.messages(11).iter().map(declared).collect(),
            outputs: graph.messages(12).iter().map(declared).collect(),
            inner: graph.messages(13).iter().map(declared).collect(),
        }
    }
}
