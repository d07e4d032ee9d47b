//! `duet data get`: downloads from servers of every kind, on this machine.

use super::{duet, fails, ok};
use duet_trainer::fetch::{Archive, Checksum, File, Got, Options, RECORD, Set, Source, get};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A server whose answers are made by a function of the request's head, in small letters; it keeps all heads.
struct Server {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = heads.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                kept.lock().unwrap().push(head.clone());
                answer(&head, &mut stream);
            }
        });
        Server { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Sends an answer; whoever asked may have gone.
fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn whole(stream: &mut TcpStream, body: &[u8]) {
    send(stream, "200 OK", &format!("Content-Length: {}\r\nETag: \"v1\"\r\n", body.len()), body);
}

/// The byte that a request wants the rest from.
fn from(head: &str) -> Option<usize> {
    head.split_once("range: bytes=")?.1.split('-').next()?.parse().ok()
}

fn sha256(bytes: &[u8]) -> &'static str {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.leak()
}

/// A set of one file that is to hold these bytes.
fn set(name: &'static str, bytes: &[u8], archive: Option<Archive>) -> Set {
    let (url, checksum) = ("https://example.org/sets/x", Some(Checksum::Sha256(sha256(bytes))));
    let file = File { url, name, bytes: Some(bytes.len() as u64), checksum, archive };
    let (title, page, licence, citation) = ("A set", "https://example.org", "MIT", "Someone 2020");
    Set { name: "set", title, page, licence, citation, source: Source::Files(vec![file].leak()) }
}

fn of(set: &Set, folder: &Path, server: &Server) -> Result<Vec<Got>, String> {
    let options = Options { mirror: Some(&server.address), json: true, stop: || false };
    get(set, folder, options).map_err(|error| error.to_string())
}

/// What lies in a folder, the lock apart.
fn there(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".duet-get.lock")
        .collect();
    names.sort();
    names
}

fn body() -> Vec<u8> {
    (0..200_000u32).map(|i| (i * 7 % 251) as u8).collect()
}

#[test]
fn a_whole_file_is_checked_noted_and_not_got_again() {
    let bytes = body();
    let served = bytes.clone();
    let server = Server::new(move |_, stream| whole(stream, &served));
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("some/where");
    let set = set("x.bin", &bytes, None);
    let got = of(&set, &folder, &server).unwrap();
    assert_eq!((got[0].present, got[0].sums.bytes), (false, 200_000));
    assert_eq!(got[0].address, format!("{}/sets/x", server.address));
    assert_eq!(std::fs::read(folder.join("x.bin")).unwrap(), bytes);
    assert_eq!(there(&folder), [RECORD, "x.bin"]);
    let note: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join(RECORD)).unwrap()).unwrap();
    assert_eq!((&note["licence"], &note["files"][0]["bytes"]), (&"MIT".into(), &200_000.into()));
    assert!(
        server.heads()[0].starts_with("get /sets/x http/1.1\r\n")
            && server.heads()[0].contains("user-agent: duet/")
    );
    assert!(of(&set, &folder, &server).unwrap()[0].present);
    assert_eq!(server.heads().len(), 1, "what is there and right is not asked for again");
    // Another file in its place is nobody's to replace.
    std::fs::write(folder.join("x.bin"), "mine").unwrap();
    let error = of(&set, &folder, &server).unwrap_err();
    assert!(error.contains("x.bin") && error.contains("move it away"), "{error}");
    assert_eq!(std::fs::read(folder.join("x.bin")).unwrap(), b"mine");
}

#[test]
fn a_file_without_a_published_checksum_is_told_by_what_was_noted() {
    let bytes = body();
    let served = bytes.clone();
    let server = Server::new(move |_, stream| whole(stream, &served));
    let home = tempfile::tempdir().unwrap();
    let file =
        File { url: "https://example.org/x", name: "x.bin", bytes: None, checksum: None, archive: None };
    let set = Set { source: Source::Files(vec![file].leak()), ..set("x.bin", &bytes, None) };
    // A part of an unknown version is not gone on with.
    std::fs::write(home.path().join(".x.bin.part"), "something else").unwrap();
    assert_eq!(of(&set, home.path(), &server).unwrap()[0].sums.sha256, sha256(&bytes));
    assert_eq!(from(&server.heads()[0]), None);
    assert!(of(&set, home.path(), &server).unwrap()[0].present);
    std::fs::write(home.path().join("x.bin"), "mine").unwrap();
    assert!(of(&set, home.path(), &server).unwrap_err().contains("not downloaded by this command"));
}

#[test]
fn what_is_not_the_published_file_leaves_nothing() {
    let bytes = body();
    let set = set("x.bin", &bytes, None);
    let mut damaged = bytes.clone();
    damaged[777] ^= 1;
    let [short, long] = [&bytes[..100], &[&bytes[..], &[0; 70_000]].concat()].map(<[u8]>::to_vec);
    let chunks = |bytes: &[u8]| {
        let chunk = |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        [bytes.chunks(9999).flat_map(chunk).collect::<Vec<u8>>(), b"0\r\n\r\n".to_vec()].concat()
    };
    // Of a known length, and of one that only the end tells.
    let chunked = chunks(&long);
    type Answer = Box<dyn Fn(&mut TcpStream) + Send>;
    let answers: [(Answer, &str); 4] = [
        (Box::new(move |stream| whole(stream, &damaged)), "SHA-256"),
        (Box::new(move |stream| whole(stream, &short)), "100 bytes instead of 200000"),
        (Box::new(move |stream| whole(stream, &long)), "270000 bytes instead of 200000"),
        (
            Box::new(move |stream| send(stream, "200 OK", "Transfer-Encoding: chunked\r\n", &chunked)),
            "more than 200000 bytes",
        ),
    ];
    for (answer, words) in answers {
        let server = Server::new(move |_, stream| answer(stream));
        let home = tempfile::tempdir().unwrap();
        let error = of(&set, home.path(), &server).unwrap_err();
        assert!(
            error.contains(words) && error.contains("x.bin") && error.contains(&server.address),
            "{error}"
        );
        assert!(there(home.path()).is_empty(), "{words}: {:?}", there(home.path()));
    }
}

/// An answer that says it is whole, and is not.
fn cut(bytes: &[u8], stream: &mut TcpStream) {
    let headers = format!("Content-Length: {}\r\nETag: \"v1\"\r\n", bytes.len());
    send(stream, "200 OK", &headers, &bytes[..80_000]);
}

/// The rest from a byte on.
fn range(bytes: &[u8], from: usize, stream: &mut TcpStream) {
    let (end, all) = (bytes.len() - 1, bytes.len());
    let headers = format!("Content-Length: {}\r\nContent-Range: bytes {from}-{end}/{all}\r\n", all - from);
    send(stream, "206 Partial Content", &headers, &bytes[from..]);
}

#[test]
fn what_was_cut_goes_on_by_whatever_the_server_can() {
    let bytes = body();
    let set = set("x.bin", &bytes, None);
    type Rest = fn(&[u8], usize, &mut TcpStream);
    let rests: [(&str, Rest, usize); 4] = [
        ("by ranges", |bytes, from, stream| range(bytes, from, stream), 2),
        ("no ranges, or another version", |bytes, _, stream| whole(stream, bytes), 2),
        ("another range than was asked for", |bytes, from, stream| range(bytes, from + 5, stream), 3),
        (
            "a file that is shorter now",
            |_, _, stream| {
                send(
                    stream,
                    "416 Range Not Satisfiable",
                    "Content-Range: bytes */10\r\nContent-Length: 0\r\n",
                    b"",
                )
            },
            3,
        ),
    ];
    for (what, rest, requests) in rests {
        let served = bytes.clone();
        let count = Mutex::new(0);
        let server = Server::new(move |head, stream| {
            let mut count = count.lock().unwrap();
            *count += 1;
            match (*count, from(head)) {
                (1, None) => cut(&served, stream),
                (_, Some(from)) => rest(&served, from, stream),
                (_, None) => whole(stream, &served),
            }
        });
        let home = tempfile::tempdir().unwrap();
        let error = of(&set, home.path(), &server).unwrap_err();
        assert!(
            error.contains("cut after") && error.contains("of 200000") && error.contains("goes on"),
            "{error}"
        );
        assert!(!there(home.path()).contains(&"x.bin".to_owned()));
        let part = std::fs::metadata(home.path().join(".x.bin.part")).unwrap().len();
        assert_eq!(part, 80_000, "{what}");
        of(&set, home.path(), &server).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(std::fs::read(home.path().join("x.bin")).unwrap(), bytes, "{what}");
        assert_eq!(there(home.path()), [RECORD, "x.bin"], "{what}");
        let heads = server.heads();
        assert!(
            heads[1].contains("range: bytes=80000-") && heads[1].contains("if-range: \"v1\""),
            "{}",
            heads[1]
        );
        assert_eq!(heads.len(), requests, "{what}");
    }
    // All of it was there, but not yet under its name.
    let server = Server::new(|_, stream| send(stream, "500 Oops", "Content-Length: 0\r\n", b""));
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".x.bin.part"), &bytes).unwrap();
    of(&set, home.path(), &server).unwrap();
    assert_eq!((server.heads().len(), std::fs::read(home.path().join("x.bin")).unwrap()), (0, bytes));
}

#[test]
fn redirects_are_followed_to_their_end_or_told() {
    let bytes = body();
    let served = bytes.clone();
    let to = |stream: &mut TcpStream, place: &str| {
        send(stream, "302 Found", &format!("Location: {place}\r\nContent-Length: 0\r\n"), b"");
    };
    let server = Server::new(move |head, stream| match head.split(' ').nth(1).unwrap() {
        "/sets/x" => to(stream, "/first"),
        "/first" => to(stream, "second"),
        "/second" => match from(head) {
            Some(from) => range(&served, from, stream),
            None => whole(stream, &served),
        },
        _ => to(stream, "/sets/x/loop"),
    });
    let home = tempfile::tempdir().unwrap();
    // What is there is gone on with at the end of the way.
    std::fs::write(home.path().join(".x.bin.part"), &bytes[..1234]).unwrap();
    of(&set("x.bin", &bytes, None), home.path(), &server).unwrap();
    assert_eq!(std::fs::read(home.path().join("x.bin")).unwrap(), bytes);
    assert_eq!(from(&server.heads()[2]), Some(1234));

    let server = Server::new(move |_, stream| to(stream, "/again"));
    let home = tempfile::tempdir().unwrap();
    let error = of(&set("x.bin", &bytes, None), home.path(), &server).unwrap_err();
    assert!(error.contains("from address to address, more than 5 times"), "{error}");
    for (status, words) in
        [("404 Not Found", "no longer there"), ("503 Busy", "try again later"), ("403 No", "--mirror")]
    {
        let server = Server::new(move |_, stream| send(stream, status, "Content-Length: 4\r\n", b"page"));
        let error = of(&set("x.bin", &bytes, None), home.path(), &server).unwrap_err();
        assert!(error.contains(words) && error.contains(&status[..3]), "{error}");
        assert!(there(home.path()).is_empty());
    }
}

/// A `.tar.gz` with these entries: name, kind, contents or where a link leads.
fn tar(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (name, kind, contents) in entries {
        let mut header = tar::Header::new_old();
        // As it is: the library's own function refuses what is tried here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let contents = if kind.is_file() { *contents } else { &b""[..] };
        header.set_size(contents.len() as u64);
        if !kind.is_file() && !kind.is_dir() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        archive.append(&header, contents).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn zip(entries: &[(&str, &[u8])], link: bool) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    if link {
        archive.add_symlink("folder/link", "/etc/passwd", options).unwrap();
    }
    for (name, contents) in entries {
        archive.start_file(*name, options).unwrap();
        archive.write_all(contents).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn archives_are_unpacked_whole_and_once() {
    use tar::EntryType::{Directory, Regular};
    let packed = tar(&[
        ("folder/", Directory, b""),
        ("folder/in/a.bin", Regular, b"abc"),
        ("./folder/b", Regular, b"de"),
        ("._x", Regular, b"z"),
    ]);
    for (name, bytes) in [
        ("x.tar.gz", packed),
        ("x.zip", zip(&[("folder/in/a.bin", b"abc"), ("folder/b", b"de"), ("._x", b"z")], false)),
    ] {
        let served = bytes.clone();
        let server = Server::new(move |_, stream| whole(stream, &served));
        let home = tempfile::tempdir().unwrap();
        let set = set(name, &bytes, Some(Archive { folder: "folder", most_bytes: 6 }));
        assert_eq!(of(&set, home.path(), &server).unwrap()[0].path, home.path().join("folder"));
        assert_eq!(std::fs::read(home.path().join("folder/in/a.bin")).unwrap(), b"abc");
        assert_eq!(std::fs::read(home.path().join("folder/b")).unwrap(), b"de");
        assert_eq!(there(home.path()), [RECORD, "folder"], "the archive is not kept");
        assert!(of(&set, home.path(), &server).unwrap()[0].present);
        assert_eq!(server.heads().len(), 1);
        std::fs::remove_file(home.path().join("folder/b")).unwrap();
        let error = of(&set, home.path(), &server).unwrap_err();
        assert!(error.contains("(1 files, 3 bytes): move it away"), "{error}");
    }
}

#[test]
fn archives_write_nowhere_else_and_no_more_than_is_known() {
    use tar::EntryType::{Block, Link, Regular, Symlink};
    let fine = ("folder/a", Regular, &b"abc"[..]);
    let cases: [(&'static str, Vec<u8>, &str); 11] = [
        ("x.tar.gz", tar(&[fine, ("../evil", Regular, b"x")]), "\"../evil\", a path that leads elsewhere"),
        ("x.tar.gz", tar(&[fine, ("folder/../../evil", Regular, b"x")]), "leads elsewhere"),
        ("x.tar.gz", tar(&[fine, ("/tmp/duet-evil", Regular, b"x")]), "leads elsewhere"),
        ("x.tar.gz", tar(&[fine, ("folder/link", Symlink, b"")]), "folder/link, which is no file or folder"),
        ("x.tar.gz", tar(&[fine, ("folder/link", Link, b"")]), "no file or folder"),
        ("x.tar.gz", tar(&[fine, ("folder/device", Block, b"")]), "no file or folder"),
        ("x.tar.gz", tar(&[fine, ("folder/b", Regular, &[0; 100_000])]), "more than the 50 bytes"),
        ("x.tar.gz", tar(&[("other/a", Regular, b"abc")]), "does not hold the folder folder"),
        ("x.zip", zip(&[("folder/a", b"abc"), ("../evil", b"x")], false), "leads elsewhere"),
        ("x.zip", zip(&[("folder/a", b"abc"), ("folder/b", &[0; 100_000])], false), "more than the 50 bytes"),
        ("x.zip", zip(&[("folder/a", b"abc")], true), "folder/link, which is no file or folder"),
    ];
    for (name, bytes, words) in cases {
        let served = bytes.clone();
        let server = Server::new(move |_, stream| whole(stream, &served));
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("in/to");
        let error =
            of(&set(name, &bytes, Some(Archive { folder: "folder", most_bytes: 50 })), &folder, &server)
                .unwrap_err();
        assert!(error.contains(words) && error.contains(name), "{words}: {error}");
        assert_eq!(there(&folder), [format!(".{name}.part"), format!(".{name}.version")], "{words}");
        assert_eq!(
            (there(home.path()), there(&home.path().join("in"))),
            (vec!["in".into()], vec!["to".into()])
        );
        assert!(!Path::new("/tmp/duet-evil").exists());
    }
    // One cut short that was published so.
    let bytes = tar(&[fine])[..40].to_vec();
    let served = bytes.clone();
    let server = Server::new(move |_, stream| whole(stream, &served));
    let home = tempfile::tempdir().unwrap();
    let set = set("x.tar.gz", &bytes, Some(Archive { folder: "folder", most_bytes: 50 }));
    assert!(of(&set, home.path(), &server).unwrap_err().contains("cannot be unpacked"));
}

#[test]
fn the_command_lists_refuses_and_tells() {
    let list = ok(&["--json", "data", "list"]);
    let names: Vec<String> = list
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names, ["mnist", "fashion-mnist", "usps", "svhn", "cifar10", "cifar100", "malaria", "celeba"]);
    let text = ok(&["data", "list"]);
    assert!(text.contains("licence: MIT (Zalando SE)") && text.contains("(by hand)"), "{text}");
    let home = tempfile::tempdir().unwrap();
    let to = home.path().join("sets").to_str().unwrap().to_owned();
    fails(&["data", "get", "mnits"], &["name", "mnits", "mnist, fashion-mnist"]);
    let by_hand = ["by hand from https://mmlab", "list_eval_partition.txt", &to];
    fails(&["data", "get", "celeba", "--to", &to], &by_hand);
    fails(&["data", "get", "mnist", "--to", &to, "--mirror", "ftp://x"], &["mirror", "http://"]);
    assert!(!Path::new(&to).exists() || there(Path::new(&to)).is_empty());
    let server = Server::new(|_, stream| send(stream, "404 Not Found", "Content-Length: 0\r\n", b""));
    let words = ["train-images-idx3-ubyte.gz", "404", &server.address];
    fails(&["data", "get", "mnist", "--to", &to, "--mirror", &server.address], &words);
    // Its own words are told before anything is taken.
    let output = duet(&["data", "get", "svhn", "--to", &to, "--mirror", &server.address]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("licence: for non-commercial use only"));
    assert_eq!(server.heads()[1].lines().next(), Some("get /housenumbers/train_32x32.mat http/1.1"));
}

#[cfg(unix)]
#[test]
fn control_c_leaves_a_part_to_go_on_with() {
    let server = Server::new(|_, stream| {
        send(stream, "200 OK", "Content-Length: 9912422\r\nETag: \"v1\"\r\n", &[0; 1000]);
        while stream.write_all(&[0; 1000]).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    let home = tempfile::tempdir().unwrap();
    let child = super::program()
        .args(["data", "get", "mnist", "--to", home.path().to_str().unwrap(), "--mirror", &server.address])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let part = home.path().join(".train-images-idx3-ubyte.gz.part");
    let begin = std::time::Instant::now();
    while std::fs::metadata(&part).map_or(0, |found| found.len()) == 0 {
        assert!(begin.elapsed().as_secs() < 60, "nothing happened");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("stopped after") && error.contains("goes on from there"), "{error}");
    assert!(std::fs::metadata(&part).unwrap().len() > 0);
    assert!(!home.path().join("train-images-idx3-ubyte.gz").exists());
}
