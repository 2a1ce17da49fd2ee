//! ONNX's operators by their definition, in `f64`, as slow as that is.

use std::collections::BTreeMap;

use crate::reader::{Attribute, BOOL, F64, Graph, I64, Node, Tensor};

/// Values by name.
pub(crate) type Values = BTreeMap<String, Tensor>;

/// The results of a graph. Names of `outer` are known in it, and no name may come twice.
pub(crate) fn run(graph: &Graph, outer: &Values, inputs: Vec<Tensor>) -> Vec<Tensor> {
    let mut known = outer.clone();
    let add = |known: &mut Values, name: &str, value: Tensor| {
        assert!(known.insert(name.to_owned(), value).is_none(), "{name} comes twice");
    };
    for (name, constant) in &graph.constants {
        add(&mut known, name, constant.clone());
    }
    assert_eq!(graph.inputs.len(), inputs.len());
    for (port, input) in graph.inputs.iter().zip(inputs) {
        assert_eq!((port.kind, port.shape.len()), (input.kind, input.shape.len()), "{}", port.name);
        add(&mut known, &port.name, input);
    }
    for node in &graph.nodes {
        let inputs: Vec<Option<&Tensor>> = node
            .inputs
            .iter()
            .map(|name| {
                (!name.is_empty()).then(|| known.get(name).unwrap_or_else(|| panic!("{name}: not known yet")))
            })
            .collect();
        let result = apply(node, &inputs, &known);
        let [name] = &node.outputs[..] else { panic!("{}: one result expected", node.operator) };
        add(&mut known, name, result);
    }
    let out = graph.outputs.iter().map(|port| {
        let value = known[&port.name].clone();
        assert_eq!((port.kind, port.shape.len()), (value.kind, value.shape.len()), "{}", port.name);
        value
    });
    out.collect()
}

fn apply(node: &Node, inputs: &[Option<&Tensor>], known: &Values) -> Tensor {
    let x = |n: usize| inputs[n].unwrap();
    let list = |n: usize| -> Vec<i64> { x(n).values.iter().map(|&v| v as i64).collect() };
    let attribute = |name: &str| -> &Attribute {
        node.attributes.get(name).unwrap_or_else(|| panic!("{}: no {name}", node.operator))
    };
    let truth = |value: bool| f64::from(u8::from(value));
    match node.operator.as_str() {
        "Conv" => {
            assert!(node.attributes.keys().all(|k| k == "kernel_shape" || k == "pads"));
            let pads = node.attributes.get("pads").map_or(vec![0; 4], |a| a.ints.clone());
            convolution(x(0), x(1), x(2), &attribute("kernel_shape").ints, &pads)
        }
        "Relu" => each(x(0), x(0).kind, |v| v.max(0.0)),
        "Abs" => each(x(0), x(0).kind, f64::abs),
        "Sqrt" => each(x(0), x(0).kind, f64::sqrt),
        "Cast" => {
            let kind = attribute("to").int;
            each(x(0), kind, |v| match kind {
                BOOL => truth(v != 0.0),
                F64 => v,
                1 => f64::from(v as f32),
                _ => v.trunc(),
            })
        }
        "MaxPool" => {
            assert_eq!(
                (&attribute("kernel_shape").ints[..], &attribute("strides").ints[..]),
                (&[2, 2][..], &[2, 2][..])
            );
            let half = |shape: &[usize]| vec![shape[0], shape[1], shape[2] / 2, shape[3] / 2];
            gather(x(0), half(&x(0).shape), |at| {
                let of =
                    |dy, dx| x(0).values[index(&x(0).shape, &[at[0], at[1], 2 * at[2] + dy, 2 * at[3] + dx])];
                of(0, 0).max(of(0, 1)).max(of(1, 0)).max(of(1, 1))
            })
        }
        "Resize" => {
            assert_eq!(attribute("mode").text, "nearest");
            assert_eq!(attribute("nearest_mode").text, "floor");
            assert_eq!(attribute("coordinate_transformation_mode").text, "asymmetric");
            assert!(inputs[1].is_none());
            let scales = x(2).values.clone();
            let shape = x(0).shape.iter().zip(&scales).map(|(&n, s)| (n as f64 * s) as usize).collect();
            gather(x(0), shape, |at| {
                let from: Vec<usize> =
                    at.iter().zip(&scales).map(|(&i, s)| (i as f64 / s).floor() as usize).collect();
                x(0).values[index(&x(0).shape, &from)]
            })
        }
        "Concat" => {
            let axis = attribute("axis").int as usize;
            let parts: Vec<&Tensor> = inputs.iter().map(|t| t.unwrap()).collect();
            let mut shape = parts[0].shape.clone();
            shape[axis] = parts.iter().map(|t| t.shape[axis]).sum();
            gather(parts[0], shape, |at| {
                let (mut at, mut part) = (at.to_vec(), 0);
                while at[axis] >= parts[part].shape[axis] {
                    at[axis] -= parts[part].shape[axis];
                    part += 1;
                }
                parts[part].values[index(&parts[part].shape, &at)]
            })
        }
        "Softmax" => {
            let axis = attribute("axis").int;
            let largest = reduce(x(0), &[axis], true, f64::NEG_INFINITY, f64::max);
            let powers = both(x(0), &largest, x(0).kind, |v, most| (v - most).exp());
            let total = reduce(&powers, &[axis], true, 0.0, |a, b| a + b);
            both(&powers, &total, x(0).kind, |a, b| a / b)
        }
        "ArgMax" => {
            let (axis, shape) = (attribute("axis").int as usize, &x(0).shape);
            assert_eq!(attribute("keepdims").int, 0);
            let mut rest = shape.clone();
            let classes = rest.remove(axis);
            let mut found = gather(x(0), rest, |at| {
                let of = |class| {
                    let mut at = at.to_vec();
                    at.insert(axis, class);
                    x(0).values[index(shape, &at)]
                };
                (1..classes).fold(0, |best, class| if of(class) > of(best) { class } else { best }) as f64
            });
            found.kind = I64;
            found
        }
        "ReduceMax" => reduce(x(0), &attribute("axes").ints, true, f64::NEG_INFINITY, f64::max),
        "ReduceSumSquare" => {
            let squares = each(x(0), x(0).kind, |v| v * v);
            reduce(&squares, &attribute("axes").ints, true, 0.0, |a, b| a + b)
        }
        "ReduceSum" => {
            let all = (0..x(0).shape.len() as i64).collect();
            reduce(x(0), &if inputs.len() > 1 { list(1) } else { all }, true, 0.0, |a, b| a + b)
        }
        "Add" => both(x(0), x(1), x(0).kind, |a, b| a + b),
        "Sub" => both(x(0), x(1), x(0).kind, |a, b| a - b),
        "Mul" => both(x(0), x(1), x(0).kind, |a, b| a * b),
        // Of integers what is left after the point is cut off.
        "Div" if x(0).kind == I64 => both(x(0), x(1), I64, |a, b| (a / b).trunc()),
        "Div" => both(x(0), x(1), x(0).kind, |a, b| a / b),
        "Greater" => both(x(0), x(1), BOOL, |a, b| truth(a > b)),
        "Equal" => both(x(0), x(1), BOOL, |a, b| truth(a == b)),
        "And" => both(x(0), x(1), BOOL, |a, b| a * b),
        "Or" => both(x(0), x(1), BOOL, f64::max),
        "Where" => {
            let chosen = both(x(0), x(1), x(1).kind, |yes, value| if yes != 0.0 { value } else { f64::NAN });
            both(&chosen, x(2), x(2).kind, |chosen, other| if chosen.is_nan() { other } else { chosen })
        }
        "Shape" => {
            let values: Vec<f64> = x(0).shape.iter().map(|&n| n as f64).collect();
            Tensor { kind: I64, shape: vec![values.len()], values }
        }
        "Gather" => {
            assert_eq!(x(0).shape.len(), 1);
            each(x(1), x(0).kind, |n| x(0).values[n as usize])
        }
        "Transpose" => {
            let order: Vec<usize> = attribute("perm").ints.iter().map(|&axis| axis as usize).collect();
            gather(x(0), order.iter().map(|&axis| x(0).shape[axis]).collect(), |at| {
                let mut from = vec![0; at.len()];
                order.iter().zip(at).for_each(|(&axis, &i)| from[axis] = i);
                x(0).values[index(&x(0).shape, &from)]
            })
        }
        "Pad" => {
            let (pads, axes) = (list(1), x(0).shape.len());
            assert!(pads.iter().all(|&n| n >= 0) && pads.len() == 2 * axes);
            let shape = (0..axes).map(|a| x(0).shape[a] + (pads[a] + pads[a + axes]) as usize).collect();
            gather(x(0), shape, |at| {
                let from: Vec<i64> = at.iter().zip(&pads).map(|(&i, pad)| i as i64 - pad).collect();
                let inside = from.iter().zip(&x(0).shape).all(|(&i, &n)| (0..n as i64).contains(&i));
                let from: Vec<usize> = from.iter().map(|&i| i as usize).collect();
                if inside { x(0).values[index(&x(0).shape, &from)] } else { 0.0 }
            })
        }
        "Slice" => {
            let (starts, stops, axes, mut shape) = (list(1), list(2), list(3), x(0).shape.clone());
            for ((&start, &stop), &axis) in starts.iter().zip(&stops).zip(&axes) {
                // Negative or longer ones mean something else, which we do not.
                assert!(0 <= start && start <= stop && stop <= shape[axis as usize] as i64);
                shape[axis as usize] = (stop - start) as usize;
            }
            gather(x(0), shape, |at| {
                let mut from = at.to_vec();
                axes.iter().zip(&starts).for_each(|(&axis, &start)| from[axis as usize] += start as usize);
                x(0).values[index(&x(0).shape, &from)]
            })
        }
        "Squeeze" => {
            let mut out = x(0).clone();
            assert_eq!((list(1), out.shape.remove(0)), (vec![0], 1));
            out
        }
        "Unsqueeze" => {
            let mut out = x(0).clone();
            assert_eq!(list(1), [0]);
            out.shape.insert(0, 1);
            out
        }
        "Scan" => {
            assert_eq!(attribute("num_scan_inputs").int as usize, inputs.len());
            let body = attribute("body").graph.as_ref().unwrap();
            let part = |t: &Tensor, n: usize| {
                let size = t.values.len() / t.shape[0];
                Tensor {
                    kind: t.kind,
                    shape: t.shape[1..].to_vec(),
                    values: t.values[n * size..][..size].to_vec(),
                }
            };
            let results: Vec<Tensor> = (0..x(0).shape[0])
                .map(|n| run(body, known, inputs.iter().map(|t| part(t.unwrap(), n)).collect()).remove(0))
                .collect();
            let mut shape = results[0].shape.clone();
            shape.insert(0, results.len());
            let kind = results[0].kind;
            Tensor { kind, shape, values: results.into_iter().flat_map(|t| t.values).collect() }
        }
        other => panic!("operator {other}"),
    }
}

/// Where a place lies in the values.
fn index(shape: &[usize], at: &[usize]) -> usize {
    shape.iter().zip(at).fold(0, |sum, (&n, &i)| {
        assert!(i < n);
        sum * n + i
    })
}

/// A tensor of another shape, of the type of `like`.
fn gather(like: &Tensor, shape: Vec<usize>, value: impl Fn(&[usize]) -> f64) -> Tensor {
    let mut at = vec![0; shape.len()];
    let values = (0..shape.iter().product()).map(|flat: usize| {
        let mut rest = flat;
        for axis in (0..shape.len()).rev() {
            at[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        value(&at)
    });
    let values = values.collect();
    Tensor { kind: like.kind, shape, values }
}

fn each(x: &Tensor, kind: i64, f: impl Fn(f64) -> f64) -> Tensor {
    Tensor { kind, shape: x.shape.clone(), values: x.values.iter().map(|&v| f(v)).collect() }
}

/// Of two tensors, axes of length 1 repeated.
fn both(a: &Tensor, b: &Tensor, kind: i64, f: impl Fn(f64, f64) -> f64) -> Tensor {
    let axes = a.shape.len().max(b.shape.len());
    let wide = |t: &Tensor| [vec![1; axes - t.shape.len()], t.shape.clone()].concat();
    let (wide_a, wide_b) = (wide(a), wide(b));
    let shape: Vec<usize> = wide_a.iter().zip(&wide_b).map(|(&n, &m)| n.max(m)).collect();
    let pick = |t: &Tensor, wide: &[usize], at: &[usize]| {
        let at: Vec<usize> = at.iter().zip(wide).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
        t.values[index(wide, &at)]
    };
    Tensor { kind, ..gather(a, shape, |at| f(pick(a, &wide_a, at), pick(b, &wide_b, at))) }
}

fn reduce(x: &Tensor, axes: &[i64], keep: bool, start: f64, f: impl Fn(f64, f64) -> f64) -> Tensor {
    assert!(keep);
    let shape: Vec<usize> = x
        .shape
        .iter()
        .enumerate()
        .map(|(axis, &n)| if axes.contains(&(axis as i64)) { 1 } else { n })
        .collect();
    let mut out = gather(x, shape.clone(), |_| start);
    let mut places = gather(x, x.shape.clone(), |at| {
        let at: Vec<usize> = at.iter().zip(&shape).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
        index(&shape, &at) as f64
    });
    for (place, &value) in places.values.iter_mut().zip(&x.values) {
        let to = &mut out.values[*place as usize];
        *to = f(*to, value);
    }
    out
}

fn convolution(x: &Tensor, kernel: &Tensor, bias: &Tensor, size: &[i64], pads: &[i64]) -> Tensor {
    let [outputs, inputs, kh, kw] = kernel.shape[..] else { panic!("a kernel has four axes") };
    assert_eq!(
        (size, x.shape[1], bias.shape.as_slice()),
        (&[kh as i64, kw as i64][..], inputs, &[outputs][..])
    );
    let (h, w) = (x.shape[2], x.shape[3]);
    let side = |n: usize, k: usize, before: i64, after: i64| n + (before + after) as usize + 1 - k;
    let shape = vec![x.shape[0], outputs, side(h, kh, pads[0], pads[2]), side(w, kw, pads[1], pads[3])];
    gather(x, shape, |at| {
        let mut sum = bias.values[at[1]];
        for channel in 0..inputs {
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let (y, x_at) = ((at[2] + ky) as i64 - pads[0], (at[3] + kx) as i64 - pads[1]);
                if (0..h as i64).contains(&y) && (0..w as i64).contains(&x_at) {
                    sum += x.values[((at[0] * inputs + channel) * h + y as usize) * w + x_at as usize]
                        * kernel.values[((at[1] * inputs + channel) * kh + ky) * kw + kx];
                }
            }
        }
        sum
    })
}
