//! `duet serve`: a model and its pictures behind the page, for browsers on this machine.

use super::{Project, fails, weights};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

/// A server that runs, and its address without the scheme.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(arguments: &[&str]) -> Serving {
        let mut child = super::program()
            .args(["--json", "serve", "--port", "0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = json["address"].as_str().unwrap();
        let address = address.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        Serving { child, address }
    }

    /// Status, headers and body of an answer.
    fn ask(&self, method: &str, path: &str, host: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, answer[end + 4..].to_vec())
    }

    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let (status, _, body) = self.ask("GET", path, &self.address);
        (status, body)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_run_is_served_with_its_test_images_and_nothing_else() {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let (page, run) = (project.text("page"), project.text("run"));
    fails(&["serve", &run, "--page", &page], &["index.html", "make web-build"]);
    std::fs::create_dir_all(project.path("page/images")).unwrap();
    std::fs::create_dir_all(project.path("page/own")).unwrap();
    let shipped = r#"[{"id": "shipped", "name": "Shipped", "about": "", "file": "model.safetensors"}]"#;
    for (name, text) in [
        ("index.html", "the page"),
        ("a.wasm", "code"),
        ("models.json", shipped),
        ("model.safetensors", "the page's model"),
        ("images/other.png", "its picture"),
        ("own/other.png", "a stranger"),
    ] {
        std::fs::write(project.path("page").join(name), text).unwrap();
    }
    let serving = Serving::start(&[&run, "--page", &page, "--samples", "2"]);
    assert_eq!(serving.get("/"), (200, b"the page".to_vec()));
    let (_, head, _) = serving.ask("GET", "/a.wasm", &serving.address);
    assert!(head.to_lowercase().contains("content-type: application/wasm"), "{head}");
    // The averaged weights, small, and whole.
    let (status, model) = serving.get("/own/model.safetensors");
    std::fs::write(project.path("served.safetensors"), &model).unwrap();
    let [served, own] =
        ["served.safetensors", "run/checkpoint.safetensors"].map(|name| weights(&project.path(name)));
    assert_eq!((status, served.model), (200, own.model));
    assert!(served.ema.is_none() && served.training.is_none());
    let (_, list) = serving.get("/own/images/index.json");
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    let labels: Vec<&str> =
        list.as_array().unwrap().iter().map(|one| one["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["dark", "light", "dark", "light"]);
    let (status, picture) = serving.get(&format!("/own/images/{}", list[1]["file"].as_str().unwrap()));
    let picture = image::load_from_memory(&picture).unwrap().to_luma8();
    assert_eq!((status, picture.dimensions()), (200, (8, 8)));
    assert!(picture.pixels().all(|pixel| pixel.0[0] >= 200), "one of the light ones");
    // It comes first in the page's menu, and the page's own models stay behind it.
    let (_, models) = serving.get("/models.json");
    let models: serde_json::Value = serde_json::from_slice(&models).unwrap();
    let of = |key: &str| -> Vec<&str> {
        models.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap_or_default()).collect()
    };
    assert_eq!(of("name"), ["run", "Shipped"]);
    assert_eq!(of("file"), ["own/model.safetensors", "model.safetensors"]);
    assert_eq!((of("id"), of("samples")), (vec!["own", "shipped"], vec!["own/images", ""]));
    assert_eq!(serving.get(&format!("/{}", of("icon")[0])).0, 200);
    assert_eq!(serving.get("/model.safetensors"), (200, b"the page's model".to_vec()));
    assert_eq!(serving.get("/images/other.png").0, 200);
    // In the model's folder nothing is the page's; nothing outside the page is to be had; nothing is taken.
    for path in ["/own/other.png", "/../recipe.toml", "/%2e%2e/recipe.toml", "//etc/passwd", "/none"] {
        assert_eq!(serving.get(path).0, 404, "{path}");
    }
    assert_eq!(serving.ask("POST", "/", &serving.address).0, 405);
    let (status, _, body) = serving.ask("HEAD", "/", &serving.address);
    assert_eq!((status, body.len()), (200, 0));
    // Another page whose name leads here reads nothing.
    assert_eq!(serving.ask("GET", "/own/model.safetensors", "example.org").0, 403);
    let port = serving.address.rsplit(':').next().unwrap();
    fails(&["serve", &run, "--page", &page, "--port", port], &["port", port, "--port 0"]);
    fails(&["serve", &project.text("none"), "--page", &page], &["none"]);
    fails(&["serve", "--page", &page, "--data", &project.text("data")], &["data"]);
}

#[test]
fn a_model_is_served_where_its_data_are_elsewhere() {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    std::fs::create_dir(project.path("page")).unwrap();
    std::fs::write(project.path("page/index.html"), "the page").unwrap();
    std::fs::rename(project.path("data"), project.path("moved")).unwrap();
    let (page, model, moved) =
        (project.text("page"), project.text("run/checkpoint.safetensors"), project.text("moved"));
    let serving = Serving::start(&[&model, "--page", &page]);
    assert_eq!(serving.get("/own/model.safetensors").0, 200);
    assert_eq!(serving.get("/own/images/index.json"), (200, b"[]".to_vec()));
    // A page without a list has this model alone; a checkpoint in a run's folder is called as the run.
    let models: serde_json::Value = serde_json::from_slice(&serving.get("/models.json").1).unwrap();
    let names: Vec<&str> =
        models.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!((names, &models[0]["icon"]), (vec!["run"], &serde_json::Value::Null));
    let serving = Serving::start(&[&model, "--page", &page, "--data", &moved, "-n", "1"]);
    let list: serde_json::Value = serde_json::from_slice(&serving.get("/own/images/index.json").1).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    // What was asked for has to be there.
    fails(&["serve", &model, "--page", &page, "--data", &project.text("data")], &["data"]);
}

/// Browsers open several connections in one moment, and keep them open where they may.
#[test]
fn connections_of_one_moment_are_all_answered() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "the page").unwrap();
    let page = folder.path().to_string_lossy().into_owned();
    let serving = Serving::start(&["--page", &page, "-n", "0"]);
    let ask = || {
        let mut stream = TcpStream::connect(&serving.address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n", serving.address).unwrap();
        // It is the answer's version by which a browser closes the connection.
        let mut answer = Vec::new();
        while !answer.ends_with(b"the page") {
            let mut part = [0; 1024];
            let count = stream.read(&mut part).expect("an answer within its time");
            assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend(&part[..count]);
        }
        assert!(answer.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&answer));
    };
    for _ in 0..30 {
        std::thread::scope(|scope| {
            (0..8).for_each(|_| {
                scope.spawn(ask);
            });
        });
    }
}
