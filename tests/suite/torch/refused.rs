//! Files made to hurt. Among them are the faults of other readers that execute nothing either: lengths that are believed before
//! anything follows, memo entries that are copied, shifts by more than a number has, keys and values in the wrong order,
//! instructions taken for others, tensors taken for contiguous ones.

use super::made::*;
use super::torch::TorchFile;
use std::path::Path;
use std::time::{Duration, Instant};
use zip::CompressionMethod;

/// Two numbers in a storage of two.
fn plain(key: &str) -> Vec<u8> {
    tensor(storage(key, 2), 0, &[2], &[1])
}

/// What is said of a file, reading it and all its tensors.
fn said(file: &[u8]) -> String {
    let read = TorchFile::read(file, Path::new("made.pt"));
    let error = read.and_then(|read| read.state_dict(None)).expect_err("a file made to hurt");
    let text = error.to_string();
    assert!(text.starts_with("checkpoint made.pt: "), "{text}");
    text
}

/// The pickle in both formats must be refused with these words.
fn refuse(what: &str, pickled: &[u8], words: &[&str]) {
    for file in [zipped(pickled, &[1.0, 2.0]), legacy(pickled, &[("0", &[1.0, 2.0])])] {
        let text = said(&file);
        assert!(words.iter().all(|word| text.contains(word)), "{what}: {text}");
    }
}

fn read(file: &[u8], name: &str) -> Vec<f32> {
    let file = TorchFile::read(file, Path::new("made.pt")).unwrap();
    file.state_dict(None).unwrap()[name].data.clone()
}

#[test]
fn programs_are_refused_by_the_name_they_ask_for() {
    let call = |module, name| pickle(&[global(module, name), tuple(&[text("true")]), b"R".to_vec()].concat());
    for (module, name) in [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch.serialization", "OrderedDict"),
        ("collections", "defaultdict"),
    ] {
        refuse(name, &call(module, name), &[&format!("`{module}.{name}`"), "nothing was executed"]);
    }
    // Allowed names are called as PyTorch calls them, or not at all.
    refuse("arguments", &call("collections", "OrderedDict"), &["OrderedDict with 1 arguments"]);
    refuse("a type", &call("torch", "FloatStorage"), &["Storage(F32) with 1 arguments"]);
    refuse("no name", &pickle(b"K\x01)R"), &["calls something that is no name"]);
    let build = [global("torch", "Size"), b")}b".to_vec()].concat();
    refuse("attributes", &pickle(&build), &["no dictionary"]);
    refuse(
        "a parameter",
        &{
            let arguments = tuple(&[whole(1), vec![0x89], b"N".to_vec()]);
            pickle(&[global("torch._utils", "_rebuild_parameter"), arguments, b"R".to_vec()].concat())
        },
        &["a parameter that is no tensor"],
    );
}

#[test]
fn instructions_are_a_closed_list() {
    let allowed = b".(N)}]JKMGXtaesuqrhjcRbQ\x80\x81\x85\x86\x87\x88\x89\x8a\x8c";
    for code in 0..=255u8 {
        if !allowed.contains(&code) {
            let text = said(&zipped(&pickle(&[&[code], b"\n\n\0\0\0\0\0\0\0\0".as_slice()].concat()), &[]));
            assert!(text.contains(&format!("0x{code:02x}")), "{code:02x}: {text}");
        }
    }
    // DICT, which is no number of eight bytes.
    refuse(
        "DICT",
        &pickle(&[b"(".to_vec(), text("w"), plain("0"), b"d".to_vec()].concat()),
        &["0x64 (DICT)"],
    );
    refuse("STACK_GLOBAL", &pickle(&[text("os"), text("system"), vec![0x93]].concat()), &["STACK_GLOBAL"]);
    refuse("a newer protocol", b"\x80\x06}.", &["protocol 6"]);
}

#[test]
fn lengths_are_compared_with_what_follows() {
    for instruction in
        [&b"X\xff\xff\xff\xff"[..], b"X\xff\xff\xff\x7f", b"\x8c\xff", b"\x8a\xff", b"G", b"J\0"]
    {
        // The file's end, for in the older format other pickles follow.
        let text = said(&zipped(&[b"\x80\x02", instruction].concat(), &[1.0]));
        assert!(text.contains("truncated"), "{instruction:?}: {text}");
    }
    refuse("no text", &pickle(b"X\x02\0\0\0\xff\xfe"), &["text that is none"]);
    let name = [b"\x80\x02c".to_vec(), vec![b'a'; 1000]].concat();
    assert!(said(&zipped(&name, &[])).contains("name without an end"));
}

#[test]
fn long_numbers_overflow_nothing() {
    let long = |length: u8, last: u8| {
        let mut bytes = vec![0xa5; length.into()];
        if let Some(end) = bytes.last_mut() {
            *end = last;
        }
        [vec![0x8a, length], bytes].concat()
    };
    for (length, last) in [(0, 0), (1, 0x80), (8, 0x7f), (9, 1), (10, 0x19), (255, 0x80)] {
        let file = zipped(&dictionary(&[("w", plain("0")), ("seed", long(length, last))]), &[1.0, 2.0]);
        assert_eq!(read(&file, "w"), [1.0, 2.0], "{length}");
    }
    // As a size, such a number is none.
    let huge = [text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu"), long(9, 1)];
    let huge = tensor([tuple(&huge), b"Q".to_vec()].concat(), 0, &[2], &[1]);
    refuse("numel", &dictionary(&[("w", huge)]), &["no storage"]);
    let one = [vec![0x8a, 1], vec![0xff]].concat();
    let parts = [text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu"), one];
    refuse("-1", &pickle(&[tuple(&parts), b"Q".to_vec()].concat()), &["no storage"]);
}

#[test]
fn keys_belong_to_their_values() {
    let (a, b) = (tensor(storage("0", 2), 0, &[1], &[1]), tensor(storage("0", 2), 1, &[1], &[1]));
    let at_once = dictionary(&[("a", a.clone()), ("b", b.clone())]);
    // SETITEM by SETITEM, and a key that was kept.
    let singly = [b"}".to_vec(), text("a"), a, b"s".to_vec(), text("b"), b, b"s".to_vec()].concat();
    for pickled in [at_once, pickle(&singly)] {
        for file in [zipped(&pickled, &[1.0, 2.0]), legacy(&pickled, &[("0", &[1.0, 2.0])])] {
            assert_eq!((read(&file, "a"), read(&file, "b")), (vec![1.0], vec![2.0]));
        }
    }
    refuse("half a pair", &pickle(b"}(K\x01u"), &["a key without a value"]);
    refuse("a name twice", &dictionary(&[("w", plain("0")), ("w", plain("0"))]), &["`w` twice"]);
    refuse(
        "no name",
        &pickle(&[b"}K\x01".to_vec(), plain("0"), b"s".to_vec()].concat()),
        &["whose name is no text"],
    );
    refuse("items of a number", &pickle(b"K\x01(K\x01K\x02u"), &["no dictionary"]);
    assert!(said(&zipped(&pickle(b"]"), &[])).contains("no dictionary of tensors"));
}

#[test]
fn what_is_recalled_is_not_copied() {
    // A tuple of itself twice, sixty times over: 2^60 numbers if they were copied.
    let mut doubled = b"K\x01".to_vec();
    for level in 0..60u8 {
        doubled.extend([b'q', level, b'h', level, 0x86]);
    }
    // A list that holds itself, and a dictionary that does.
    let cycles = b"]q\xf0h\xf0a".to_vec();
    let mut pickled = b"\x80\x02}q\xff(".to_vec();
    for (key, value) in
        [("doubled", doubled), ("cycle", cycles), ("self", b"h\xff".to_vec()), ("w", plain("0"))]
    {
        pickled.extend([text(key), value].concat());
    }
    pickled.extend(b"u.");
    let begun = Instant::now();
    assert_eq!(read(&zipped(&pickled, &[1.0, 2.0]), "w"), [1.0, 2.0]);
    assert!(begun.elapsed() < Duration::from_secs(1));
    refuse("nothing kept", &pickle(b"h\x07"), &["number 7, which was not kept"]);
    refuse("nothing to keep", &pickle(b"q\0"), &["than is there"]);
}

#[test]
fn stacks_and_marks_are_kept() {
    for (what, instructions) in [
        ("nothing", &b""[..]),
        ("a tuple of too few", b"K\x01\x86"),
        ("across a mark", b"}(K\x01s"),
        ("append to nothing", b"K\x01a"),
        ("call of nothing", b")R"),
        ("reference to nothing", b"Q"),
    ] {
        refuse(what, &pickle(instructions), &["than is there"]);
    }
    refuse("no mark", &pickle(b"t"), &["not begun"]);
    refuse("open", &pickle(b"(K\x01"), &["inside a container"]);
    refuse("marks", &pickle(&[b'('; 5000]), &["1000 containers"]);
    refuse("append to a number", &pickle(b"K\x01K\x02a"), &["no list"]);
    refuse("no storage", &pickle(b")Q"), &["no storage"]);
}

#[test]
fn tensors_stay_within_their_storage() {
    for (what, tensor, words) in [
        ("too long", tensor(storage("0", 2), 0, &[3], &[1]), "beyond its storage of 2"),
        ("offset", tensor(storage("0", 2), 1, &[2], &[1]), "beyond its storage of 2"),
        ("stride", tensor(storage("0", 2), 0, &[2], &[2]), "beyond its storage of 2"),
        ("negative offset", tensor(storage("0", 2), -1, &[1], &[1]), "negative"),
        ("negative stride", tensor(storage("0", 2), 1, &[2], &[-1]), "negative"),
        ("negative length", tensor(storage("0", 2), 0, &[-2], &[1]), "negative"),
        ("strides", tensor(storage("0", 2), 0, &[2], &[1, 1]), "1 lengths and 2 strides"),
        ("product", tensor(storage("0", 2), 0, &[i32::MAX; 3], &[0; 3]), "beyond"),
        ("storage", tensor(storage("0", i32::MAX), 0, &[2], &[1]), ""),
        ("no storage", tensor(whole(1), 0, &[2], &[1]), "without a storage"),
    ] {
        refuse(what, &dictionary(&[("w", tensor)]), &[words]);
    }
    // Two values as two thousand million.
    refuse(
        "expanded",
        &dictionary(&[("w", tensor(storage("0", 2), 0, &[1 << 15, 1 << 16], &[0, 0]))]),
        &["clone()"],
    );
    let other = [text("storage"), global("torch", "LongStorage"), text("0"), text("cpu"), whole(1)];
    let other = tensor([tuple(&other), b"Q".to_vec()].concat(), 0, &[1], &[1]);
    refuse("two types", &dictionary(&[("a", plain("0")), ("b", other)]), &["two descriptions"]);
    let part = tuple(&[text("part"), whole(0), whole(1)]);
    let part = [text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu"), whole(2), part];
    refuse("a part", &pickle(&[tuple(&part), b"Q".to_vec()].concat()), &["before 0.4"]);
}

#[test]
fn archives_hold_what_they_say() {
    let pickled = dictionary(&[("w", plain("0"))]);
    let (data, short) = (bytes(&[1.0, 2.0]), bytes(&[1.0]));
    let pkl = ("data.pkl", pickled.as_slice());
    assert_eq!(
        read(&archive(&[pkl, ("data/0", &data)]), "w"),
        [1.0, 2.0],
        "files of before 1.13 say no order"
    );
    let constants = ("constants.pkl", &b"\x80\x02)."[..]);
    for (what, files, words) in [
        ("no pickle", vec![("data/0", data.as_slice())], "without a data.pkl"),
        ("no storage", vec![pkl], "no a/data/0"),
        ("short", vec![pkl, ("data/0", &short)], "4 bytes, its pickle says 8"),
        ("big-endian", vec![pkl, ("byteorder", b"big"), ("data/0", &data)], "big-endian"),
        ("a program", vec![pkl, constants, ("data/0", &data)], "TorchScript"),
        ("empty", vec![("data.pkl", b"".as_slice())], "truncated"),
        ("more", vec![("data.pkl", b"\x80\x02}..".as_slice())], "1 bytes behind its pickle"),
    ] {
        let text = said(&archive(&files));
        assert!(text.contains(words), "{what}: {text}");
    }
    let text = said(&packed(&[pkl, ("data/0", &[0; 4000])], CompressionMethod::Deflated));
    assert!(text.contains("compressed"), "{text}");

    let whole = zipped(&pickled, &[1.0, 2.0]);
    let place = |needle: &[u8], from: usize| {
        from + whole[from..].windows(needle.len()).position(|window| window == needle).unwrap()
    };
    // A changed value, which its checksum tells.
    let mut changed = whole.clone();
    changed[place(&data, 0)] ^= 1;
    assert!(said(&changed).contains("a/data/0 is not what it was"));
    // The same name twice: the directory's second entry renamed to the first one's, of as many letters.
    let twice = archive(&[pkl, ("data/0", &data), ("data/1", &short)]);
    let second = twice.windows(8).rposition(|window| window == b"a/data/1").unwrap();
    let mut renamed = twice.clone();
    renamed[second + 7] = b'0';
    assert!(said(&renamed).contains("several entries of one name"), "{}", said(&renamed));
    // Lengths in the directory beyond the file.
    let entry = whole.windows(8).rposition(|window| window == b"a/data/0").unwrap();
    for field in [20, 24] {
        let mut longer = whole.clone();
        longer[entry - 46 + field..][..4].copy_from_slice(&0x7fff_fff0u32.to_le_bytes());
        assert!(said(&longer).contains("truncated"), "{}", said(&longer));
    }
}

#[test]
fn the_format_before_zip_holds_what_it_says() {
    let pickled = dictionary(&[("w", plain("0"))]);
    let good: &[(&str, &[f32])] = &[("0", &[1.0, 2.0])];
    assert_eq!(read(&legacy(&pickled, good), "w"), [1.0, 2.0]);
    for (what, storages, words) in [
        ("none", &[][..], "lacks a storage"),
        ("another", &[("1", &[1.0, 2.0][..])][..], "\"1\" of no tensor"),
        ("short", &[("0", &[1.0][..])], "another length"),
        ("twice", &[("0", &[1.0, 2.0][..]), ("0", &[1.0, 2.0][..])], "\"0\" twice"),
    ] {
        let text = said(&legacy(&pickled, storages));
        assert!(text.contains(words), "{what}: {text}");
    }
    let more = [legacy(&pickled, good), vec![0]].concat();
    assert!(said(&more).contains("1 bytes that belong to nothing"));
    let big = [legacy_head(false), legacy(&pickled, good)[legacy_head(true).len()..].to_vec()].concat();
    assert!(said(&big).contains("big-endian"));
    for (file, words) in [
        (&b"\x80\x02}."[..], "not one that torch.save wrote"),
        (b"\x80\x04\x95", "not one that torch.save wrote"),
        (b"GGUF", "no file that torch.save wrote"),
        (b"", "no file that torch.save wrote"),
        (b"PK\x03\x04", "truncated"),
    ] {
        assert!(said(file).contains(words), "{}", said(file));
    }
}

#[test]
fn every_file_that_is_cut_is_refused() {
    for name in ["types.pt", "types-legacy.pt", "checkpoint.pt"] {
        let (_, bytes) = super::fixture(name);
        for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            assert!(TorchFile::read(&bytes[..length], Path::new("cut.pt")).is_err(), "{name}: {length}");
        }
    }
}
