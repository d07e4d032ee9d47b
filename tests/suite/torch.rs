//! PyTorch's files: those that PyTorch wrote read to the bit, hand-made bad ones refused with their reason, ours read by
//! PyTorch.

#[path = "torch/made.rs"]
mod made;
#[path = "torch/refused.rs"]
mod refused;

use duet::tensor::{HostTensor, Tensors};
use duet::torch::{self, Dtype, TorchFile};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> (PathBuf, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

fn bits(host: &HostTensor) -> Vec<u32> {
    host.data.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_safetensors_file_whose_length_looks_like_a_pickle_is_none() {
    for length in [0x280u64, 0x380, 0x480, 0x580] {
        let bytes = [&length.to_le_bytes()[..], b"{\"fc.bias\":"].concat();
        assert!(!TorchFile::recognise(&bytes), "{length:x}");
    }
    for name in ["types.pt", "types-legacy.pt"] {
        assert!(TorchFile::recognise(&fixture(name).1), "{name}");
    }
}

#[test]
fn every_type_and_layout_is_read_from_both_formats() {
    for name in ["types.pt", "types-legacy.pt"] {
        let (path, bytes) = fixture(name);
        let file = TorchFile::read(&bytes, &path).unwrap();
        assert_eq!(file.sections(), [""]);
        let tensors = file.tensors("").unwrap();
        let all: Vec<f32> = (0..24u8).map(f32::from).collect();
        let transposed: Vec<f32> = (0..24).map(|i| all[i % 2 * 12 + i / 2 % 3 * 4 + i / 6]).collect();
        let halves = [1.0, 6.1e-5, 65504.0].map(|value| f16::from_f32(value).to_f32());
        let wanted: [(&str, Dtype, &[usize], Vec<f32>); 16] = [
            ("f32", Dtype::F32, &[2, 3, 4], all),
            ("transposed", Dtype::F32, &[4, 3, 2], transposed),
            ("part", Dtype::F32, &[3, 2], vec![13.0, 14.0, 17.0, 18.0, 21.0, 22.0]),
            ("expanded", Dtype::F32, &[3, 2], [1.5, -2.5].repeat(3)),
            ("parameter", Dtype::F32, &[2], vec![0.25, 0.5]),
            ("scalar", Dtype::F32, &[], vec![7.5]),
            ("empty", Dtype::F32, &[0, 3], vec![]),
            ("f16", Dtype::F16, &[3], halves.to_vec()),
            ("bf16", Dtype::BF16, &[2], vec![1.0, bf16::from_f32(3.0e38).to_f32()]),
            ("f64", Dtype::F64, &[2], vec![0.1, f32::NEG_INFINITY]),
            ("i64", Dtype::I64, &[2], vec![-((1u64 << 40) as f32), 3.0]),
            ("i32", Dtype::I32, &[1], vec![-70000.0]),
            ("i16", Dtype::I16, &[1], vec![-300.0]),
            ("i8", Dtype::I8, &[1], vec![-3.0]),
            ("u8", Dtype::U8, &[1], vec![200.0]),
            ("bool", Dtype::Bool, &[2], vec![1.0, 0.0]),
        ];
        assert_eq!(tensors.len(), wanted.len());
        for (key, dtype, shape, data) in wanted {
            let tensor = &tensors[key];
            assert_eq!((tensor.dtype(), tensor.shape()), (dtype, shape), "{name} {key}");
            assert_eq!(bits(&tensor.to_host()), bits(&HostTensor { shape: vec![], data }), "{name} {key}");
            assert_eq!(tensor.to_le_bytes().len(), tensor.len() * dtype.bytes(), "{name} {key}");
        }
        // What is not f32 is kept as it is, too.
        assert_eq!(tensors["f64"].to_le_bytes(), [0.1f64, -1e300].map(f64::to_le_bytes).concat());
        assert_eq!(tensors["i64"].to_le_bytes(), [-(1i64 << 40), 3].map(i64::to_le_bytes).concat());
        let floats = file.state_dict(None).unwrap();
        assert_eq!(floats.len(), 10, "{:?}", floats.keys());
    }
}

#[test]
fn a_module_s_state_is_found_where_it_is() {
    let (path, bytes) = fixture("module-legacy.pt");
    let plain = TorchFile::read(&bytes, &path).unwrap().state_dict(None).unwrap();
    let names: Vec<&str> = plain.keys().map(String::as_str).collect();
    let norm = ["1.bias", "1.running_mean", "1.running_var", "1.weight"];
    assert_eq!(names, ["0.bias", "0.weight"].into_iter().chain(norm).collect::<Vec<_>>());
    let weight = HostTensor { shape: vec![2, 3], data: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] };
    assert_eq!(plain["0.weight"], weight);

    let (path, bytes) = fixture("checkpoint.pt");
    let file = TorchFile::read(&bytes, &path).unwrap();
    assert_eq!(file.sections(), ["state_dict", "ema"]);
    assert_eq!(file.state_dict(Some("state_dict")).unwrap(), plain);
    let doubled = file.state_dict(Some("ema")).unwrap();
    assert_eq!(doubled["0.weight"].data, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    let said = file.state_dict(None).unwrap_err().to_string();
    assert!(said.contains("checkpoint.pt") && said.contains("(state_dict, ema): say which"), "{said}");
    for section in ["emma", "optimizer", ""] {
        let said = file.state_dict(Some(section)).map(|found| found.len());
        match section {
            // There is such a dictionary, without a tensor in it.
            "optimizer" | "" => assert_eq!(said.unwrap(), 0),
            _ => {
                let said = said.unwrap_err().to_string();
                assert!(said.contains("\"emma\"; there are: state_dict, ema"), "{said}");
            }
        }
    }
}

#[test]
fn files_without_checksums_are_read() {
    let (path, bytes) = fixture("no-sums.pt");
    let tensors = TorchFile::read(&bytes, &path).unwrap().state_dict(None).unwrap();
    assert_eq!(tensors["a"].data, [1.0, 2.0]);
}

#[test]
fn a_module_saved_whole_is_a_program_and_refused_by_name() {
    let (path, bytes) = fixture("program.pt");
    let said = TorchFile::read(&bytes, &path).unwrap_err().to_string();
    for word in
        ["program.pt", "`torch.nn.modules.container.Sequential`", "nothing was executed", "state_dict()"]
    {
        assert!(said.contains(word), "{said}");
    }
}

/// Tensors of shapes that hurt, for what is written.
fn samples() -> Tensors {
    let tensor = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        HostTensor { shape: shape.to_vec(), data: (0..count).map(|i| (i as f32 * 0.7).sin()).collect() }
    };
    let shapes: [(&str, &[usize]); 6] = [
        ("scalar", &[]),
        ("empty", &[0, 3]),
        ("conv.weight", &[8, 3, 3, 3]),
        ("größe", &[300, 1]),
        ("wide", &[1, 70_000]),
        ("one", &[1]),
    ];
    shapes.into_iter().map(|(name, shape)| (name.to_owned(), tensor(shape))).collect()
}

#[test]
fn what_is_written_is_read_again() {
    let tensors = samples();
    let write = || torch::to_bytes(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))).unwrap();
    let bytes = write();
    assert_eq!(bytes, write(), "equal tensors give equal bytes");
    let file = TorchFile::read(&bytes, Path::new("x.pt")).unwrap();
    assert_eq!(file.state_dict(None).unwrap(), tensors);
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).unwrap();
        assert_eq!(entry.compression(), zip::CompressionMethod::Stored);
        assert_eq!(entry.data_start().unwrap() % 64, 0, "{}", entry.name().unwrap());
    }
    let short = HostTensor { shape: vec![2], data: vec![1.0] };
    assert!(torch::to_bytes([("a", &short)]).unwrap_err().to_string().contains("`a` has 1 values"));
    let one = &tensors["one"];
    assert!(torch::to_bytes([("a", one), ("a", one)]).unwrap_err().to_string().contains("twice"));
}

#[test]
#[ignore = "needs Python with PyTorch, which DUET_PYTORCH names"]
fn pytorch_reads_what_is_written() {
    let python = std::env::var("DUET_PYTORCH").expect("DUET_PYTORCH names a Python with PyTorch");
    let tensors = samples();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.pt");
    let bytes = torch::to_bytes(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let script = "\
import json, sys, torch
for mmap in [False, True]:
    read = torch.load(sys.argv[1], weights_only=True, mmap=mmap)
    print(json.dumps({name: [list(t.shape), t.is_contiguous(), str(t.dtype), t.flatten().view(torch.int32).tolist()]
                      for name, t in read.items()}))";
    let output = std::process::Command::new(python).args(["-c", script]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let read: BTreeMap<String, (Vec<usize>, bool, String, Vec<i32>)> =
            serde_json::from_str(line).unwrap();
        assert_eq!(read.len(), tensors.len());
        for (name, tensor) in &tensors {
            let values: Vec<i32> = tensor.data.iter().map(|value| value.to_bits() as i32).collect();
            assert_eq!(
                read[name],
                (tensor.shape.clone(), true, "torch.float32".to_owned(), values),
                "{name}"
            );
        }
    }
}

/// The reference's own files, where `DUET_REFERENCE` names a copy of its repository: the legacy format as PyTorch 1.x wrote it.
#[test]
fn the_reference_s_files_are_read() {
    let Some(home) = std::env::var_os("DUET_REFERENCE") else {
        println!("not looked at: DUET_REFERENCE names no copy of the reference's repository");
        return;
    };
    for (name, parameters, first, shape) in [
        ("lenet_MNIST", 44_426, "conv1.weight", [6, 1, 5, 5]),
        ("lenet_Omniglot", 182_463, "conv1.weight", [32, 1, 5, 5]),
        ("lenet.pth", 61_706, "convnet.c1.weight", [6, 1, 5, 5]),
    ] {
        let path = Path::new(&home).join("evaluations/evaluation_models").join(name);
        let bytes = std::fs::read(&path).unwrap();
        let tensors = TorchFile::read(&bytes, &path).unwrap().state_dict(None).unwrap();
        let count: usize = tensors.values().map(|tensor| tensor.data.len()).sum();
        assert_eq!((count, tensors[first].shape.as_slice()), (parameters, &shape[..]), "{name}");
        assert!(tensors.values().flat_map(|tensor| &tensor.data).all(|value| value.abs() < 100.0), "{name}");
    }
}
