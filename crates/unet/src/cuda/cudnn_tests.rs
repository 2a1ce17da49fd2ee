//! The calls into cuDNN: against its own library where that is there, which makes descriptors without a device, and against one that
//! convolves on the CPU (`mock_cudnn.cpp`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use super::*;
use crate::cuda::emulated::works;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Not `eprintln!`, which a test keeps to itself when it passes.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

#[test]
fn the_library_has_every_function_and_reads_our_shapes() {
    let api = match Api::load() {
        Ok(api) => api,
        Err(error) => return say(&format!("!! NOT CHECKED against cuDNN itself: {error}")),
    };
    let g = Geometry { images: 2, rows: 12, columns: 20, inputs: 24, outputs: 16 };
    for precision in [Precision::F32, Precision::Bf16] {
        let shape = Descriptors::new(&api, g, precision).unwrap();
        assert_eq!(shape.output(&api).unwrap(), [2, 16, 12, 20]);
        shape.destroy(&api);
    }
}

#[test]
fn the_first_deterministic_algorithm_is_taken() {
    let proposal = |algorithm, status, memory, determinism, math| Proposal {
        algorithm,
        status,
        memory,
        determinism,
        math,
        ..Proposal::default()
    };
    let all = [
        proposal(0, 0, 0, 0, TENSOR_OP_MATH),
        proposal(1, 9, 0, DETERMINISTIC, TENSOR_OP_MATH),
        proposal(2, 0, usize::MAX, DETERMINISTIC, TENSOR_OP_MATH),
        proposal(3, 0, 0, DETERMINISTIC, TENSOR_OP_MATH_ALLOW_CONVERSION),
        proposal(4, 0, 8, DETERMINISTIC, DEFAULT_MATH),
        proposal(5, 0, 0, DETERMINISTIC, TENSOR_OP_MATH),
    ];
    assert_eq!(choose(&all).unwrap().algorithm, 4);
    assert!(choose(&all[..4]).is_none());
}

/// Where cuDNN's header is, of a toolkit that the environment names.
fn header() -> Option<PathBuf> {
    let homes = ["CUDNN_HOME", "CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    homes.map(|home| Path::new(&home).join("include")).find(|folder| folder.join("cudnn.h").is_file())
}

/// The library on the CPU; with cuDNN's header where there is one, so that its declarations count.
fn mock(folder: &Path) -> Library {
    let path = folder.join("libmock.so");
    let mut command = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".into()));
    command.args(["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"]);
    match header() {
        Some(include) => _ = command.args(["-shared", "-fPIC", "-DHEADER", "-I"]).arg(include),
        None => {
            say("!! NOT CHECKED against cudnn.h: no CUDA_HOME with it");
            command.args(["-shared", "-fPIC"]);
        }
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda/mock_cudnn.cpp");
    let output = command.arg(source).arg("-o").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: our own library, whose loading runs nothing.
    unsafe { Library::new(path) }.unwrap()
}

/// Values with few digits: their products and sums are exact in either type.
fn small(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed * 13 + i / 5) % 5) as f32 - 2.0).collect()
}

/// By definition: the one of x, w and y that `kind` asks for.
fn convolved(kind: Convolution, g: Geometry, x: &[f32], w: &[f32], y: &[f32]) -> Vec<f32> {
    let Geometry { images, rows, columns, inputs, outputs } = g;
    let mut sums = match kind {
        Convolution::Forward => vec![0.0; y.len()],
        Convolution::Data => vec![0.0; x.len()],
        Convolution::Weight => vec![0.0; w.len()],
    };
    for (image, r, c, tap) in (0..images)
        .flat_map(|n| (0..rows).flat_map(move |r| (0..columns).map(move |c| (n, r, c))))
        .flat_map(|(n, r, c)| (0..9).map(move |tap| (n, r, c, tap)))
    {
        let (Some(sr), Some(sc)) = ((r + tap / 3).checked_sub(1), (c + tap % 3).checked_sub(1)) else {
            continue;
        };
        if sr >= rows || sc >= columns {
            continue;
        }
        for (o, i) in (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))) {
            let from = ((image * rows + sr) * columns + sc) * inputs + i;
            let to = ((image * rows + r) * columns + c) * outputs + o;
            let k = (o * 9 + tap) * inputs + i;
            match kind {
                Convolution::Forward => sums[to] += x[from] * w[k],
                Convolution::Data => sums[from] += y[to] * w[k],
                Convolution::Weight => sums[k] += x[from] * y[to],
            }
        }
    }
    sums
}

fn bytes(values: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::F32 => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        Precision::Bf16 => values.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_ne_bytes()).collect(),
    }
}

fn floats(bytes: &[u8], precision: Precision) -> Vec<f32> {
    match precision {
        Precision::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect(),
        Precision::Bf16 => {
            let wide = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_ne_bytes(*b)) << 16);
            bytes.as_chunks().0.iter().map(wide).collect()
        }
    }
}

#[test]
fn each_call_gives_what_it_is_to_and_everything_is_destroyed() {
    if !works(&[]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = mock(folder.path());
    // SAFETY: the type is that of the function; it only reads a number.
    let alive: unsafe extern "C" fn() -> c_int = unsafe { *library.get("mock_alive\0").unwrap() };
    for precision in [Precision::F32, Precision::Bf16] {
        // SAFETY: loading runs nothing.
        let api = Api::of(unsafe { Library::new(folder.path().join("libmock.so")) }.unwrap()).unwrap();
        let cudnn = Cudnn::of(api, null_mut(), precision).unwrap();
        for g in [
            Geometry { images: 2, rows: 3, columns: 4, inputs: 2, outputs: 3 },
            Geometry { images: 1, rows: 1, columns: 5, inputs: 4, outputs: 1 },
        ] {
            let (x, w) = (small(g.pixels() * g.inputs, 1), small(g.outputs * 9 * g.inputs, 2));
            let y = small(g.pixels() * g.outputs, 3);
            for kind in [Convolution::Forward, Convolution::Data, Convolution::Weight] {
                // Twice: the second time by the plan that was kept.
                for _ in 0..2 {
                    let mut held = [&x, &w, &y].map(|values| bytes(values, precision));
                    let target = match kind {
                        Convolution::Data => 0,
                        Convolution::Weight => 1,
                        Convolution::Forward => 2,
                    };
                    held[target].fill(0xff);
                    let mut room = vec![0u8; 64];
                    let views = held
                        .each_mut()
                        .map(|held| View { address: held.as_mut_ptr() as u64, bytes: held.len() });
                    let memory = |bytes: usize| {
                        assert_eq!(bytes, room.len());
                        Ok(room.as_mut_ptr() as u64)
                    };
                    // SAFETY: the memory is the host's, as the library's, of these shapes, and lives on.
                    unsafe { cudnn.convolve(kind, g, views, memory) }.unwrap();
                    let found = floats(&held[target], precision);
                    assert_eq!(found, convolved(kind, g, &x, &w, &y), "{kind:?} {precision}");
                }
            }
        }
        // SAFETY: as above.
        assert!(unsafe { alive() } > 0);
        drop(cudnn);
        // SAFETY: as above.
        assert_eq!(unsafe { alive() }, 0, "something was not destroyed");
    }
}
