//! The network in `f64`, by loops that follow the definitions: an oracle for values, statistics and, through finite
//! differences without rounding noise, gradients.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use scribseg_unet::Config;
use std::collections::BTreeMap;

/// Values with their shape `[n, c, h, w]`.
#[derive(Clone)]
pub struct Array {
    pub shape: [usize; 4],
    pub values: Vec<f64>,
}

impl Array {
    pub fn zeros(shape: [usize; 4]) -> Self {
        Self { shape, values: vec![0.0; shape.iter().product()] }
    }

    fn index(&self, [n, c, y, x]: [usize; 4]) -> usize {
        ((n * self.shape[1] + c) * self.shape[2] + y) * self.shape[3] + x
    }

    pub fn at(&self, i: [usize; 4]) -> f64 {
        self.values[self.index(i)]
    }

    /// The array of a shape whose values `f` gives.
    fn from_fn([n, c, h, w]: [usize; 4], f: impl Fn([usize; 4]) -> f64) -> Self {
        let mut values = Vec::new();
        for i in 0..n {
            for k in 0..c {
                for y in 0..h {
                    values.extend((0..w).map(|x| f([i, k, y, x])));
                }
            }
        }
        Self { shape: [n, c, h, w], values }
    }
}

pub type Parameters = BTreeMap<String, Vec<f64>>;

fn conv(x: &Array, weight: &[f64], size: usize) -> Array {
    let [n, c, h, w] = x.shape;
    let outputs = weight.len() / (c * size * size);
    Array::from_fn([n, outputs, h, w], |[i, o, y, xx]| {
        let mut sum = 0.0;
        for k in 0..c {
            for ky in 0..size {
                for kx in 0..size {
                    let (sy, sx) = ((y + ky).wrapping_sub(size / 2), (xx + kx).wrapping_sub(size / 2));
                    if sy < h && sx < w {
                        sum += weight[((o * c + k) * size + ky) * size + kx] * x.at([i, k, sy, sx]);
                    }
                }
            }
        }
        sum
    })
}

/// Batch norm and ReLU; in training the running statistics in `parameters` move as PyTorch's do.
fn norm_relu(x: &Array, parameters: &mut Parameters, name: &str, train: bool) -> Array {
    let [n, c, h, w] = x.shape;
    let count = (n * h * w) as f64;
    let (mut mean, mut variance) = (
        parameters[&format!("{name}.running_mean")].clone(),
        parameters[&format!("{name}.running_var")].clone(),
    );
    if train {
        for k in 0..c {
            let channel = |f: &dyn Fn(f64) -> f64| -> f64 {
                let mut sum = 0.0;
                for i in 0..n {
                    for y in 0..h {
                        sum += (0..w).map(|xx| f(x.at([i, k, y, xx]))).sum::<f64>();
                    }
                }
                sum
            };
            let m = channel(&|v| v) / count;
            let squares = channel(&|v| (v - m) * (v - m));
            for (key, old, new) in
                [("running_mean", mean[k], m), ("running_var", variance[k], squares / (count - 1.0))]
            {
                parameters.get_mut(&format!("{name}.{key}")).unwrap()[k] = 0.9 * old + 0.1 * new;
            }
            (mean[k], variance[k]) = (m, squares / count);
        }
    }
    let (gamma, beta) = (&parameters[&format!("{name}.weight")], &parameters[&format!("{name}.bias")]);
    Array::from_fn(x.shape, |i| {
        let k = i[1];
        (gamma[k] * (x.at(i) - mean[k]) / (variance[k] + 1e-5).sqrt() + beta[k]).max(0.0)
    })
}

/// Logits of the network.
pub fn forward(config: &Config, parameters: &mut Parameters, x: &Array, train: bool) -> Array {
    let block = |x: &Array, name: String, parameters: &mut Parameters| {
        (1..=2).fold(x.clone(), |x, i| {
            let y = conv(&x, &parameters[&format!("{name}.conv{i}.weight")], 3);
            norm_relu(&y, parameters, &format!("{name}.bn{i}"), train)
        })
    };
    let (mut x, mut skips) = (x.clone(), Vec::new());
    for level in 0..=config.depth {
        if level > 0 {
            let [n, c, h, w] = x.shape;
            x = Array::from_fn([n, c, h / 2, w / 2], |[i, k, y, xx]| {
                let v = |dy, dx| x.at([i, k, 2 * y + dy, 2 * xx + dx]);
                v(0, 0).max(v(0, 1)).max(v(1, 0)).max(v(1, 1))
            });
        }
        x = block(&x, format!("enc{level}"), parameters);
        skips.push(x.clone());
    }
    skips.pop();
    for level in (0..config.depth).rev() {
        let skip = skips.pop().unwrap();
        let (low, [n, c, h, w]) = (x.clone(), skip.shape);
        x = Array::from_fn([n, low.shape[1] + c, h, w], |[i, k, y, xx]| {
            if k < low.shape[1] {
                low.at([i, k, y / 2, xx / 2])
            } else {
                skip.at([i, k - low.shape[1], y, xx])
            }
        });
        x = block(&x, format!("dec{level}"), parameters);
    }
    let mut logits = conv(&x, &parameters["head.weight"], 1);
    let plane = logits.shape[2] * logits.shape[3];
    for (i, v) in logits.values.iter_mut().enumerate() {
        *v += parameters["head.bias"][i / plane % config.out_channels];
    }
    logits
}

/// Eq. 1 of the paper; 255 is unknown.
pub fn partial_cross_entropy(logits: &Array, scribble: &[u8], weak: &[u8], lambda: f64) -> f64 {
    let [_, classes, h, w] = logits.shape;
    let term = |labels: &[u8]| {
        let known: Vec<usize> = (0..labels.len()).filter(|&p| labels[p] != 255).collect();
        let sum: f64 = (known.iter())
            .map(|&p| {
                let at = |k| logits.at([p / (h * w), k, p / w % h, p % w]);
                (0..classes).map(|k| (at(k) - at(usize::from(labels[p]))).exp()).sum::<f64>().ln()
            })
            .sum();
        if known.is_empty() { 0.0 } else { sum / known.len() as f64 }
    };
    term(scribble) + lambda * term(weak)
}
