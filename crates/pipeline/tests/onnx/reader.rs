//! A reader of ONNX files, written from the definition of the format alone: what it does not know it refuses.

use std::collections::BTreeMap;

/// Fields of a message in order: number, and a varint or bytes.
pub(crate) fn fields(bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let key = varint(bytes, &mut at);
        let field = match key & 7 {
            0 => Field::Int(varint(bytes, &mut at) as i64),
            2 => {
                let length = varint(bytes, &mut at) as usize;
                at += length;
                Field::Bytes(&bytes[at - length..at])
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Field<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub(crate) fn int(self) -> i64 {
        match self {
            Self::Int(value) => value,
            Self::Bytes(_) => panic!("expected an integer"),
        }
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Int(_) => panic!("expected bytes"),
        }
    }

    pub(crate) fn text(self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}

/// Any tensor, its values widened; booleans are 0 and 1. `kind` is ONNX's number of its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) kind: i64,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

pub(crate) const F32: i64 = 1;
pub(crate) const U8: i64 = 2;
pub(crate) const I64: i64 = 7;
pub(crate) const BOOL: i64 = 9;
pub(crate) const F64: i64 = 11;

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) ir_version: i64,
    pub(crate) producer: String,
    pub(crate) opsets: Vec<(String, i64)>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) graph: Graph,
}

#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) constants: Vec<(String, Tensor)>,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
}

#[derive(Default)]
pub(crate) struct Node {
    pub(crate) operator: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) attributes: BTreeMap<String, Attribute>,
}

#[derive(Default)]
pub(crate) struct Attribute {
    pub(crate) int: i64,
    pub(crate) ints: Vec<i64>,
    pub(crate) text: String,
    pub(crate) graph: Option<Graph>,
}

/// Name, type, and the lengths of axes, or their names.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) kind: i64,
    pub(crate) shape: Vec<String>,
}

impl Model {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut model = Self::default();
        for (number, field) in fields(bytes) {
            match number {
                1 => model.ir_version = field.int(),
                2 => model.producer = field.text(),
                3 | 6 => assert!(!field.text().is_empty()),
                7 => model.graph = Graph::read(field.bytes()),
                8 => {
                    let mut opset = (String::new(), 0);
                    for (number, field) in fields(field.bytes()) {
                        match number {
                            1 => opset.0 = field.text(),
                            2 => opset.1 = field.int(),
                            _ => panic!("field {number} of an opset"),
                        }
                    }
                    model.opsets.push(opset);
                }
                14 => {
                    let entry = fields(field.bytes());
                    let [(1, key), (2, value)] = entry[..] else { panic!("no key and value") };
                    model.metadata.insert(key.text(), value.text());
                }
                _ => panic!("field {number} of a model"),
            }
        }
        model
    }
}

impl Graph {
    fn read(bytes: &[u8]) -> Self {
        let mut graph = Self::default();
        for (number, field) in fields(bytes) {
            match number {
                1 => graph.nodes.push(Node::read(field.bytes())),
                2 => assert!(!field.text().is_empty()),
                5 => graph.constants.push(constant(field.bytes())),
                11 => graph.inputs.push(Port::read(field.bytes())),
                12 => graph.outputs.push(Port::read(field.bytes())),
                _ => panic!("field {number} of a graph"),
            }
        }
        graph
    }
}

impl Node {
    fn read(bytes: &[u8]) -> Self {
        let mut node = Self::default();
        for (number, field) in fields(bytes) {
            match number {
                1 => node.inputs.push(field.text()),
                2 => node.outputs.push(field.text()),
                3 => assert!(!field.text().is_empty()),
                4 => node.operator = field.text(),
                5 => {
                    let (name, attribute) = Attribute::read(field.bytes());
                    node.attributes.insert(name, attribute);
                }
                _ => panic!("field {number} of a node"),
            }
        }
        node
    }
}

impl Attribute {
    fn read(bytes: &[u8]) -> (String, Self) {
        let (mut name, mut kind, mut found) = (String::new(), 0, Vec::new());
        let mut attribute = Self::default();
        for (number, field) in fields(bytes) {
            match number {
                1 => name = field.text(),
                3 => attribute.int = field.int(),
                4 => attribute.text = field.text(),
                6 => attribute.graph = Some(Graph::read(field.bytes())),
                8 => attribute.ints.push(field.int()),
                20 => kind = field.int(),
                _ => panic!("field {number} of an attribute"),
            }
            if ![1, 20].contains(&number) {
                found.push(number);
            }
        }
        // The type says which of the fields counts.
        let counts = [(2, 3), (3, 4), (5, 6), (7, 8)].into_iter().find(|(k, _)| *k == kind).unwrap().1;
        assert!(!found.is_empty() && found.iter().all(|&number| number == counts), "{name}: {found:?}");
        (name, attribute)
    }
}

impl Port {
    fn read(bytes: &[u8]) -> Self {
        let mut port = Self::default();
        for (number, field) in fields(bytes) {
            match number {
                1 => port.name = field.text(),
                2 => {
                    let kind = fields(field.bytes());
                    let [(1, tensor)] = kind[..] else { panic!("no tensor") };
                    let tensor = fields(tensor.bytes());
                    let [(1, element), (2, shape)] = tensor[..] else { panic!("no element and shape") };
                    port.kind = element.int();
                    for (number, side) in fields(shape.bytes()) {
                        assert_eq!(number, 1);
                        let side = fields(side.bytes());
                        port.shape.push(match side[..] {
                            [(1, length)] => length.int().to_string(),
                            [(2, name)] => name.text(),
                            _ => panic!("no length and no name"),
                        });
                    }
                }
                3 => {}
                _ => panic!("field {number} of a value"),
            }
        }
        port
    }
}

fn constant(bytes: &[u8]) -> (String, Tensor) {
    let (mut name, mut raw, mut kind, mut shape) = (String::new(), &[][..], 0, Vec::new());
    for (number, field) in fields(bytes) {
        match number {
            1 => shape.push(field.int() as usize),
            2 => kind = field.int(),
            8 => name = field.text(),
            9 => raw = field.bytes(),
            _ => panic!("field {number} of a tensor"),
        }
    }
    let values: Vec<f64> = match kind {
        F32 => raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
        U8 => raw.iter().map(|&b| b.into()).collect(),
        I64 => raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        other => panic!("type {other}"),
    };
    assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
    (name, Tensor { kind, shape, values })
}
