//! The part of ONNX's messages that our graphs need, and their encoding as protocol buffers.
//!
//! Field numbers are those of `onnx.proto3`. A message is a run of fields, each a key (number · 8 + wire type) and a value: a varint (type 0), or
//! a length and as many bytes (type 2); what a message holds once and is zero or empty is left out.

/// Version of the file format: 8 is the first that goes with [`OPSET`].
pub const IR_VERSION: i64 = 8;

/// Version of the operators.
pub const OPSET: i64 = 17;

/// A whole file.
pub(crate) struct Model {
    pub(crate) graph: Graph,
    /// For people.
    pub(crate) about: String,
    /// For programs.
    pub(crate) metadata: Vec<(&'static str, String)>,
}

/// Nodes in an order in which each comes after those it reads from.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) constants: Vec<Constant>,
    pub(crate) inputs: Vec<Value>,
    pub(crate) outputs: Vec<Value>,
}

/// An operator at work.
pub(crate) struct Node {
    pub(crate) operator: &'static str,
    /// An empty name leaves an optional input out.
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) attributes: Vec<(&'static str, Attribute)>,
}

/// What an operator is told beside its inputs.
pub(crate) enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Text(&'static str),
    Graph(Graph),
}

/// A tensor that the file holds.
pub(crate) struct Constant {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values,
}

/// The values of a tensor, in the order of its last axis first.
pub(crate) enum Values {
    F32(Vec<f32>),
    U8(Vec<u8>),
    I64(Vec<i64>),
}

/// Name, type and shape of what goes in or comes out.
pub(crate) struct Value {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<Side>,
    pub(crate) about: String,
}

/// Type of a tensor's elements, by ONNX's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F32 = 1,
    U8 = 2,
    I64 = 7,
    Bool = 9,
    F64 = 11,
}

/// The length of an axis.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Fixed(usize),
    /// Of any length, the same wherever the name stands.
    Any(&'static str),
}

/// The bytes of a message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An integer, negative ones in ten bytes.
    fn int(&mut self, field: u64, value: i64) {
        self.varint(field << 3);
        self.varint(value as u64);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u64, message: Self) {
        self.bytes(field, &message.0);
    }
}

impl Model {
    /// The file's bytes: the same for the same model.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Message::default();
        out.int(1, IR_VERSION);
        out.text(2, super::PRODUCER);
        out.text(3, env!("CARGO_PKG_VERSION"));
        out.text(6, &self.about);
        out.message(7, self.graph.message());
        let mut opset = Message::default();
        opset.int(2, OPSET);
        out.message(8, opset);
        for (key, value) in &self.metadata {
            let mut entry = Message::default();
            entry.text(1, key);
            entry.text(2, value);
            out.message(14, entry);
        }
        out.0
    }
}

impl Graph {
    fn message(&self) -> Message {
        let mut out = Message::default();
        for (index, node) in self.nodes.iter().enumerate() {
            out.message(1, node.message(index));
        }
        out.text(2, &self.name);
        for constant in &self.constants {
            out.message(5, constant.message());
        }
        for (field, values) in [(11, &self.inputs), (12, &self.outputs)] {
            for value in values {
                out.message(field, value.message());
            }
        }
        out
    }
}

impl Node {
    fn message(&self, index: usize) -> Message {
        let mut out = Message::default();
        for (field, names) in [(1, &self.inputs), (2, &self.outputs)] {
            for name in names {
                // An input that is left out has an empty name, which is written.
                out.bytes(field, name.as_bytes());
            }
        }
        out.text(3, &format!("{}_{index}", self.operator));
        out.text(4, self.operator);
        for (name, attribute) in &self.attributes {
            let mut entry = Message::default();
            entry.text(1, name);
            let kind = match attribute {
                Attribute::Int(value) => {
                    entry.int(3, *value);
                    2
                }
                Attribute::Text(text) => {
                    entry.text(4, text);
                    3
                }
                Attribute::Graph(graph) => {
                    entry.message(6, graph.message());
                    5
                }
                Attribute::Ints(values) => {
                    for value in values {
                        entry.int(8, *value);
                    }
                    7
                }
            };
            entry.int(20, kind);
            out.message(5, entry);
        }
        out
    }
}

impl Constant {
    fn message(&self) -> Message {
        let mut out = Message::default();
        for &side in &self.shape {
            out.int(1, side as i64);
        }
        let (kind, bytes): (Kind, Vec<u8>) = match &self.values {
            Values::F32(values) => (Kind::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Values::U8(values) => (Kind::U8, values.clone()),
            Values::I64(values) => (Kind::I64, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        };
        out.int(2, kind as i64);
        out.text(8, &self.name);
        out.bytes(9, &bytes);
        out
    }
}

impl Value {
    fn message(&self) -> Message {
        let mut shape = Message::default();
        for side in &self.shape {
            let mut entry = Message::default();
            match side {
                Side::Fixed(length) => entry.int(1, *length as i64),
                Side::Any(name) => entry.text(2, name),
            }
            shape.message(1, entry);
        }
        let (mut tensor, mut kind, mut out) = (Message::default(), Message::default(), Message::default());
        tensor.int(1, self.kind as i64);
        tensor.message(2, shape);
        kind.message(1, tensor);
        out.text(1, self.name);
        out.message(2, kind);
        out.text(3, &self.about);
        out
    }
}
