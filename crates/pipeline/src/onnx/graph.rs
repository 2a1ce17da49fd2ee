//! Graphs of our networks: one of slices, and one of a whole scan with all that is before and after the networks.

use std::collections::BTreeMap;

use super::proto::{Attribute, Constant, Graph, Kind, Node, Side, Value, Values};
use crate::error::{Error, Result};

/// What comes into the graph of slices.
pub(crate) const IMAGES: &str = "images";
/// What comes out of it.
pub(crate) const PROBABILITIES: &str = "probabilities";
/// What comes into the graph of a scan.
pub(crate) const SCAN: &str = "scan";
/// What comes out of it.
pub(crate) const LABELS: &str = "labels";

/// A trained network: its shape, and its parameters by the names of [`scribseg_unet::Config::parameters`].
pub(crate) struct Network {
    pub(crate) shape: scribseg_unet::Config,
    pub(crate) parameters: BTreeMap<String, Vec<f32>>,
}

impl Network {
    fn parameter(&self, name: &str) -> Result<&[f32]> {
        let found = self.parameters.get(name).map(Vec::as_slice);
        found.ok_or_else(|| Error::Network(format!("expected a parameter `{name}`, found none")))
    }

    /// Kernel and bias of a convolution with the batch norm behind it folded in: with s = γ/√(σ² + ε), s·w and β − s·μ.
    fn folded(&self, block: &str, index: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let norm = |part: &str| self.parameter(&format!("{block}.bn{index}.{part}"));
        let (gamma, beta) = (norm("weight")?, norm("bias")?);
        let (mean, variance) = (norm("running_mean")?, norm("running_var")?);
        let kernel = self.parameter(&format!("{block}.conv{index}.weight"))?;
        let scales: Vec<f64> = gamma
            .iter()
            .zip(variance)
            .map(|(&g, &v)| f64::from(g) / (f64::from(v) + scribseg_unet::EPSILON).sqrt())
            .collect();
        let per_channel = kernel.len() / gamma.len().max(1);
        let kernel = kernel.chunks(per_channel.max(1)).zip(&scales);
        let kernel = kernel.flat_map(|(values, s)| values.iter().map(move |&w| (f64::from(w) * s) as f32));
        let bias = beta.iter().zip(mean).zip(&scales);
        let bias = bias.map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32);
        Ok((kernel.collect(), bias.collect()))
    }
}

/// A graph in the making. A name stands for one value in all of it, in a graph within it too.
#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    constants: Vec<Constant>,
    values: usize,
}

impl Builder {
    /// A node with one result, which has the name that is returned.
    fn node(
        &mut self,
        operator: &'static str,
        inputs: &[&str],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let name = format!("{}_{}", operator.to_ascii_lowercase(), self.values);
        self.node_as(&name, operator, inputs, attributes);
        name
    }

    /// The same under a name of one's own.
    fn node_as(
        &mut self,
        name: &str,
        operator: &'static str,
        inputs: &[&str],
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        self.values += 1;
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        self.nodes.push(Node { operator, inputs, outputs: vec![name.to_owned()], attributes });
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: Values) -> String {
        self.constants.push(Constant { name: name.to_owned(), shape: shape.to_vec(), values });
        name.to_owned()
    }

    /// A list of integers.
    fn list(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(name, &[values.len()], Values::I64(values.to_vec()))
    }

    /// Logits of `images`; the names of the network's constants begin with `prefix`. `twice` names the factors of an upsampling.
    fn network(&mut self, network: &Network, prefix: &str, images: &str, twice: &str) -> Result<String> {
        let shape = &network.shape;
        let (mut x, mut inputs, mut skips) = (images.to_owned(), shape.in_channels, Vec::new());
        for level in 0..=shape.depth {
            if level > 0 {
                let window = vec![("kernel_shape", ints(&[2, 2])), ("strides", ints(&[2, 2]))];
                x = self.node("MaxPool", &[&x], window);
            }
            let outputs = shape.width << level;
            x = self.block(network, prefix, &format!("enc{level}"), &x, inputs, outputs)?;
            inputs = outputs;
            skips.push(x.clone());
        }
        skips.pop();
        for level in (0..shape.depth).rev() {
            let nearest = vec![
                ("mode", Attribute::Text("nearest")),
                ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
                ("nearest_mode", Attribute::Text("floor")),
            ];
            let up = self.node("Resize", &[&x, "", twice], nearest);
            let skip = skips.pop().unwrap_or_default();
            let both = self.node("Concat", &[&up, &skip], vec![("axis", Attribute::Int(1))]);
            let outputs = shape.width << level;
            x = self.block(network, prefix, &format!("dec{level}"), &both, 3 * outputs, outputs)?;
        }
        let mut head = |part: &str, shape: &[usize]| {
            let name = format!("head.{part}");
            let values = Values::F32(network.parameter(&name)?.to_vec());
            Ok::<_, Error>(self.constant(&format!("{prefix}{name}"), shape, values))
        };
        let kernel = head("weight", &[shape.out_channels, shape.width, 1, 1])?;
        let bias = head("bias", &[shape.out_channels])?;
        Ok(self.node("Conv", &[&x, &kernel, &bias], vec![("kernel_shape", ints(&[1, 1]))]))
    }

    /// Two convolutions, a ReLU after each.
    fn block(
        &mut self,
        network: &Network,
        prefix: &str,
        name: &str,
        x: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<String> {
        let mut x = x.to_owned();
        for (index, inputs) in [(1, inputs), (2, outputs)] {
            let (kernel, bias) = network.folded(name, index)?;
            let conv = format!("{prefix}{name}.conv{index}");
            let kernel =
                self.constant(&format!("{conv}.weight"), &[outputs, inputs, 3, 3], Values::F32(kernel));
            let bias = self.constant(&format!("{conv}.bias"), &[outputs], Values::F32(bias));
            let same = vec![("kernel_shape", ints(&[3, 3])), ("pads", ints(&[1, 1, 1, 1]))];
            let sum = self.node("Conv", &[&x, &kernel, &bias], same);
            x = self.node("Relu", &[&sum], Vec::new());
        }
        Ok(x)
    }

    fn twice(&mut self) -> String {
        self.constant("twice", &[4], Values::F32(vec![1.0, 1.0, 2.0, 2.0]))
    }

    fn finish(self, name: &str, inputs: Vec<Value>, outputs: Vec<Value>) -> Graph {
        Graph { name: name.to_owned(), nodes: self.nodes, constants: self.constants, inputs, outputs }
    }
}

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

fn to(kind: Kind) -> Vec<(&'static str, Attribute)> {
    vec![("to", Attribute::Int(kind as i64))]
}

/// Probabilities of normalised slices: `images` `[batch, channels, height, width]` → `probabilities` `[batch, classes, height, width]`.
pub(crate) fn of_slices(name: &str, network: &Network, about: [String; 2]) -> Result<Graph> {
    let mut graph = Builder::default();
    let twice = graph.twice();
    let logits = graph.network(network, "", IMAGES, &twice)?;
    graph.node_as(PROBABILITIES, "Softmax", &[&logits], vec![("axis", Attribute::Int(1))]);
    let value = |name, channels, about| {
        let shape = vec![Side::Any("batch"), Side::Fixed(channels), Side::Any("height"), Side::Any("width")];
        Value { name, kind: Kind::F32, shape, about }
    };
    let [images, probabilities] = about;
    let inputs = vec![value(IMAGES, network.shape.in_channels, images)];
    let outputs = vec![value(PROBABILITIES, network.shape.out_channels, probabilities)];
    Ok(graph.finish(name, inputs, outputs))
}

/// Labels of a whole scan: `scan` `[channels, z, y, x]` in any unit → `labels` `[z, y, x]`, the values of NCR/NET, ED and ET as given.
///
/// Inside are the z-score over the brain, in double precision as ours is, the centre crop to `crop` rows and columns, both networks slice by slice,
/// the merge, and the way back to the scan's own grid.
pub(crate) fn of_scan(
    tumour: &Network,
    sub: &Network,
    crop: [usize; 2],
    values: [u8; 3],
    about: [String; 2],
) -> Result<Graph> {
    let mut graph = Builder::default();
    let g = &mut graph;
    let channels = tumour.shape.in_channels;

    // The brain is what is not zero in each channel; outside it every value is 0, so that sums over all are sums over the brain.
    let magnitude = g.node("Abs", &[SCAN], Vec::new());
    let largest = g.node("ReduceMax", &[&magnitude], vec![("axes", ints(&[0]))]);
    let zero = g.constant("zero", &[], Values::F32(vec![0.0]));
    let brain = g.node("Greater", &[&largest, &zero], Vec::new());
    let inside = g.node("Cast", &[&brain], to(Kind::F64));
    let count = g.node("ReduceSum", &[&inside], Vec::new());
    let space = g.list("space", &[1, 2, 3]);
    let wide = g.node("Cast", &[SCAN], to(Kind::F64));
    let total = g.node("ReduceSum", &[&wide, &space], Vec::new());
    let mean = g.node("Div", &[&total, &count], Vec::new());
    let centred = g.node("Sub", &[&wide, &mean], Vec::new());
    let centred = g.node("Mul", &[&centred, &inside], Vec::new());
    let squares = g.node("ReduceSumSquare", &[&centred], vec![("axes", ints(&[1, 2, 3]))]);
    let variance = g.node("Div", &[&squares, &count], Vec::new());
    let deviation = g.node("Sqrt", &[&variance], Vec::new());
    let score = g.node("Div", &[&centred, &deviation], Vec::new());
    let score = g.node("Cast", &[&score], to(Kind::F32));

    // Cut where floor((size − crop) / 2) says, be it negative: padded first by half the crop, so that no number is below 0.
    let [rows, columns] = crop.map(|side| side as i64);
    let half = [(rows + 1) / 2, (columns + 1) / 2];
    let shape = g.node("Shape", &[SCAN], Vec::new());
    let plane = g.list("plane", &[2, 3]);
    let size = g.node("Gather", &[&shape, &plane], Vec::new());
    let excess = g.list("excess", &[2 * half[0] - rows, 2 * half[1] - columns]);
    let room = g.node("Add", &[&size, &excess], Vec::new());
    let two = g.list("two", &[2]);
    let start = g.node("Div", &[&room, &two], Vec::new());
    let crop = g.list("crop", &[rows, columns]);
    let stop = g.node("Add", &[&start, &crop], Vec::new());
    let slices = g.node("Transpose", &[&score], vec![("perm", ints(&[1, 0, 2, 3]))]);
    let margins = g.list("image_margins", &[0, 0, half[0], half[1], 0, 0, half[0], half[1]]);
    let slices = g.node("Pad", &[&slices, &margins], Vec::new());
    let slices = g.node("Slice", &[&slices, &start, &stop, &plane], Vec::new());
    let first = g.list("first", &[0]);
    let brain = g.node("Squeeze", &[&brain, &first], Vec::new());
    let brain = g.node("Cast", &[&brain], to(Kind::U8));
    let margins = g.list("brain_margins", &[0, half[0], half[1], 0, half[0], half[1]]);
    let brain = g.node("Pad", &[&brain, &margins], Vec::new());
    let axes = g.list("axes", &[1, 2]);
    let brain = g.node("Slice", &[&brain, &start, &stop, &axes], Vec::new());

    let body = g.slice_body(tumour, sub, &first, [rows as usize, columns as usize], channels, values)?;
    let each = vec![("body", Attribute::Graph(body)), ("num_scan_inputs", Attribute::Int(2))];
    let labels = g.node("Scan", &[&slices, &brain], each);

    // Back: padded by the whole size, cut where the crop came from.
    let margins = g.node("Concat", &[&first, &size, &first, &size], vec![("axis", Attribute::Int(0))]);
    let labels = g.node("Pad", &[&labels, &margins], Vec::new());
    let halves = g.list("halves", &half);
    let back = g.node("Sub", &[&halves, &start], Vec::new());
    let back = g.node("Add", &[&back, &size], Vec::new());
    let end = g.node("Add", &[&back, &size], Vec::new());
    g.node_as(LABELS, "Slice", &[&labels, &back, &end, &axes], Vec::new());

    let volume = [Side::Any("depth"), Side::Any("rows"), Side::Any("columns")];
    let shape = [Side::Fixed(channels)].into_iter().chain(volume).collect();
    let [scan, labels] = about;
    let inputs = vec![Value { name: SCAN, kind: Kind::F32, shape, about: scan }];
    let outputs = vec![Value { name: LABELS, kind: Kind::U8, shape: volume.to_vec(), about: labels }];
    Ok(graph.finish("scan", inputs, outputs))
}

impl Builder {
    /// What happens to each slice: both networks, the more probable class of each, and the merge inside the brain.
    fn slice_body(
        &mut self,
        tumour: &Network,
        sub: &Network,
        first: &str,
        [rows, columns]: [usize; 2],
        channels: usize,
        [ncr, ed, et]: [u8; 3],
    ) -> Result<Graph> {
        let twice = self.twice();
        let number = |value| Values::I64(vec![value]);
        let [none, one, two, three] = [("none", 0), ("ncr", 1), ("ed", 2), ("et", 3)]
            .map(|(name, code)| self.constant(name, &[], number(code)));
        let table = self.constant("label_values", &[4], Values::U8(vec![0, ncr, ed, et]));
        let outer = std::mem::take(&mut self.nodes);
        let images = self.node("Unsqueeze", &["slice", first], Vec::new());
        let class = || vec![("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(0))];
        let logits = self.network(tumour, "wt.", &images, &twice)?;
        let whole = self.node("ArgMax", &[&logits], class());
        let whole = self.node("Greater", &[&whole, &none], Vec::new());
        let brain = self.node("Cast", &["brain"], to(Kind::Bool));
        let whole = self.node("And", &[&whole, &brain], Vec::new());
        let logits = self.network(sub, "sub.", &images, &twice)?;
        let own = self.node("ArgMax", &[&logits], class());
        let core = self.node("Equal", &[&own, &one], Vec::new());
        let enhancing = self.node("Equal", &[&own, &three], Vec::new());
        let kept = self.node("Or", &[&core, &enhancing], Vec::new());
        let own = self.node("Where", &[&kept, &own, &two], Vec::new());
        let merged = self.node("Where", &[&whole, &own, &none], Vec::new());
        let values = self.node("Gather", &[&table, &merged], Vec::new());
        self.node_as("slice_labels", "Squeeze", &[&values, first], Vec::new());
        let nodes = std::mem::replace(&mut self.nodes, outer);
        let value = |name, kind, shape: Vec<Side>| Value { name, kind, shape, about: String::new() };
        let plane = [Side::Fixed(rows), Side::Fixed(columns)];
        let image = [Side::Fixed(channels)].into_iter().chain(plane).collect();
        Ok(Graph {
            name: "slice".into(),
            nodes,
            constants: Vec::new(),
            inputs: vec![value("slice", Kind::F32, image), value("brain", Kind::U8, plane.to_vec())],
            outputs: vec![value("slice_labels", Kind::U8, plane.to_vec())],
        })
    }
}
