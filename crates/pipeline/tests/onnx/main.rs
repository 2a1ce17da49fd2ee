//! What `export` writes as ONNX, read back and computed by the operators' definitions, against our own networks and `predict`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

mod operators;
mod reader;

use std::path::Path;

use candle_core::Device;
use candle_nn::VarMap;
use ndarray::{Array3, Array4};
use operators::run;
use reader::{F32, Model, Tensor, U8};
use scribseg_io::{Declared, Geometry, LabelVolume};
use scribseg_pipeline::methods::Methods;
use scribseg_pipeline::{Card, Config, Silent, onnx, save_model, verbs};

const SPACING: [f64; 3] = [4.0; 3];

/// A generator that is enough for test data: from -1 to 1.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn config() -> Config {
    let mut config = Config::default();
    let tiny = ["network.width=3", "network.depth=2", "input.crop_mm=64", "input.label_scheme=brats2017"];
    config.set_all(&tiny).unwrap();
    config
}

/// A network whose batch norms have seen something, in a file.
fn write_model(folder: &Path, name: &str, outputs: usize) -> VarMap {
    let weights = Methods::paper(&config()).network.init(outputs, 8, &Device::Cpu).unwrap();
    let mut draw = Draw(outputs as u64);
    let mut variables: Vec<_> = weights.data().lock().unwrap().clone().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, variable) in variables.iter().filter(|(name, _)| name.contains(".bn") || name == "head.bias") {
        let centre = if name.ends_with(".weight") || name.ends_with("running_var") { 1.0 } else { 0.0 };
        let mut values: Vec<f32> = (0..variable.elem_count()).map(|_| centre + 0.5 * draw.next()).collect();
        if name == "head.bias" && outputs == 4 {
            // So that each value is found somewhere.
            values[1] += 0.5;
        }
        variable
            .set(&candle_core::Tensor::from_vec(values, variable.shape(), &Device::Cpu).unwrap())
            .unwrap();
    }
    let card = Card::new(name, outputs, SPACING, &config());
    save_model(&folder.join(format!("{name}.safetensors")), &weights, &card).unwrap();
    weights
}

fn read(path: &Path) -> Model {
    Model::read(&std::fs::read(path).unwrap())
}

#[test]
fn a_network_of_slices_gives_our_probabilities_at_any_size() {
    let folder = tempfile::tempdir().unwrap();
    for (name, outputs) in [("wt", 2), ("sub", 4)] {
        let weights = write_model(folder.path(), name, outputs);
        let out = folder.path().join("out");
        let files = onnx::export(&folder.path().join(format!("{name}.safetensors")), &out, &Silent).unwrap();
        assert_eq!(files, [out.join(format!("{name}.onnx")), out.join(format!("{name}.json"))]);
        let model = read(&files[0]);
        assert_eq!((model.ir_version, &model.opsets[..]), (8, &[(String::new(), 17)][..]));
        assert_eq!(model.producer, "scribseg");
        let [input] = &model.graph.inputs[..] else { panic!("one input") };
        assert_eq!(
            (input.name.as_str(), input.kind, input.shape.join(" ")),
            ("images", F32, "batch 4 height width".into())
        );
        let [output] = &model.graph.outputs[..] else { panic!("one output") };
        let shape = format!("batch {outputs} height width");
        assert_eq!(
            (output.name.as_str(), output.kind, output.shape.join(" ")),
            ("probabilities", F32, shape)
        );
        // The record is in the file and beside it.
        let beside: serde_json::Value = serde_json::from_slice(&std::fs::read(&files[1]).unwrap()).unwrap();
        assert_eq!(beside, serde_json::from_str::<serde_json::Value>(&model.metadata["scribseg"]).unwrap());
        assert_eq!(beside["channels"], serde_json::json!(["t1", "t1ce", "t2", "flair"]));
        assert_eq!(beside["crop"]["pixels"], serde_json::json!([16, 16]));
        assert_eq!(beside["outputs"][0]["classes"].as_array().unwrap().len(), outputs);

        let network = Methods::paper(&config()).network.load(outputs, &weights, &Device::Cpu).unwrap();
        for shape in [[2, 4, 16, 16], [1, 4, 8, 20]] {
            let mut draw = Draw(7);
            let images: Vec<f32> = (0..shape.iter().product()).map(|_| 2.0 * draw.next()).collect();
            let values = images.iter().map(|&v| v.into()).collect();
            let found = run(
                &model.graph,
                &Default::default(),
                vec![Tensor { kind: F32, shape: shape.to_vec(), values }],
            );
            let images = candle_core::Tensor::from_vec(images, &shape, &Device::Cpu).unwrap();
            let ours = scribseg_unet::softmax(&network.logits(&images, false).unwrap()).unwrap();
            assert_eq!(found[0].shape, ours.dims());
            let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let differences = ours.iter().zip(&found[0].values).map(|(&a, b)| (f64::from(a) - b).abs());
            let largest = differences.fold(0.0, f64::max);
            assert!(largest < 1e-5, "{name}: {largest}");
            let spread = ours.iter().fold(0f32, |most, &v| most.max(v))
                - ours.iter().fold(1f32, |least, &v| least.min(v));
            assert!(spread > 0.3, "{name}: all about {}", ours[0]);
        }
    }
}

#[test]
fn a_whole_scan_gives_the_labels_of_predict() {
    let folder = tempfile::tempdir().unwrap();
    let (models, out, cohort) =
        (folder.path().join("models"), folder.path().join("out"), folder.path().join("cohort"));
    std::fs::create_dir(&models).unwrap();
    write_model(&models, "wt", 2);
    write_model(&models, "sub", 4);
    // Smaller than the crop along one axis, larger along the other, both by an odd number; then the other way round.
    let shapes = [[3, 21, 13], [2, 13, 17]];
    let mut draw = Draw(11);
    for (n, [z, y, x]) in shapes.into_iter().enumerate() {
        let brain = Array3::from_shape_fn([z, y, x], |(_, i, j)| i > 1 && j > 0 && i + j < y + x - 5);
        let images = Array4::from_shape_fn([4, z, y, x], |(c, k, i, j)| match brain[[k, i, j]] {
            true => 900.0 + 100.0 * c as f32 + 80.0 * draw.next(),
            false => 0.0,
        });
        let geometry = Geometry::from_spacing([z, y, x], SPACING).unwrap();
        scribseg_io::write_case(&cohort, &format!("case_{n}"), images.view(), None, &geometry).unwrap();
    }
    let predictions = folder.path().join("predictions");
    let written = verbs::predict(
        std::slice::from_ref(&models),
        std::slice::from_ref(&cohort),
        &predictions,
        false,
        &Declared::default(),
        &Device::Cpu,
        &Silent,
    )
    .unwrap();
    let files = onnx::export(&models, &out, &Silent).unwrap();
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["wt.onnx", "wt.json", "sub.onnx", "sub.json", "scan.onnx", "scan.json"]);
    let model = read(&out.join("scan.onnx"));
    let about: serde_json::Value = serde_json::from_str(&model.metadata["scribseg"]).unwrap();
    assert_eq!(about["normalisation"]["inside"], true);
    assert_eq!(about["labels"][3], serde_json::json!({"class": "ET", "value": 4}));
    for (case, path) in scribseg_io::Cohort::open(&cohort, None).unwrap().cases.iter().zip(&written) {
        let image = case.load_images().unwrap().modalities;
        let values = image.iter().map(|&v| v.into()).collect();
        let scan = Tensor { kind: F32, shape: image.shape().to_vec(), values };
        let [found] = &run(&model.graph, &Default::default(), vec![scan])[..] else { panic!("one output") };
        let ours = LabelVolume::read(path).unwrap().data;
        assert_eq!((found.kind, &found.shape[..]), (U8, ours.shape()));
        assert!(ours.iter().zip(&found.values).all(|(&a, &b)| f64::from(a) == b), "{}", case.id);
        for value in [0, 1, 4] {
            assert!(ours.iter().any(|&v| v == value), "{}: no voxel of {value}", case.id);
        }
    }
}

#[test]
fn nobodys_files_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), "wt", 2);
    let (model, out) = (folder.path().join("wt.safetensors"), folder.path().join("out"));
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("wt.json"), "{\"mine\": true}").unwrap();
    let refused = onnx::export(&model, &out, &Silent).unwrap_err().to_string();
    assert!(refused.contains("wt.json") && refused.contains("not written by scribseg"), "{refused}");
    assert!(!out.join("wt.onnx").exists());
    std::fs::remove_file(out.join("wt.json")).unwrap();
    let first = onnx::export(&model, &out, &Silent).unwrap();
    let bytes = std::fs::read(&first[0]).unwrap();
    onnx::export(&model, &out, &Silent).unwrap();
    assert_eq!(std::fs::read(&first[0]).unwrap(), bytes);
}
