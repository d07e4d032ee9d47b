//! The dashboard on a terminal: keys, signals, and the terminal as it was afterwards.

use super::Project;
use super::training::{FILE, step, wait_for};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

/// A run on a terminal of its own.
struct Terminal {
    child: Child,
    keys: File,
    said: Arc<Mutex<Vec<u8>>>,
    ours: OwnedFd,
    before: Termios,
}

impl Terminal {
    fn start(project: &Project, run: &str, more: &[&str]) -> Terminal {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || pty.slave.try_clone().unwrap();
        let child = super::program()
            .args(["train", &project.text("recipe.toml"), "--out", &project.text(run), "--steps", "100000"])
            .args(more)
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let keys = File::from(pty.master);
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, heard) = (keys.try_clone().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut part) {
                heard.lock().unwrap().extend(&part[..read]);
            }
        });
        Terminal { child, keys, said, ours: pty.slave, before }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    fn press(&mut self, key: u8) {
        self.keys.write_all(&[key]).unwrap();
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn wait_for_times(&self, words: &str, times: usize) {
        wait_for(|| self.text().matches(words).count() >= times);
    }

    fn is_as_before(&self) -> bool {
        let now = tcgetattr(&self.ours).unwrap();
        now.local_flags == self.before.local_flags && now.input_flags == self.before.input_flags
    }

    /// The run ends in order, and leaves the terminal as it was; what it says then is on the ordinary screen.
    fn ends(mut self, taken: usize) {
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.text());
        assert!(self.is_as_before());
        wait_for(|| self.text().contains(" of 100000 after "));
        let text = self.text();
        assert_eq!([TAKEN, GIVEN_BACK].map(|word| text.matches(word).count()), [taken, taken]);
        let after = text.rsplit(GIVEN_BACK).next().unwrap();
        for words in ["stopping after this step", "(interrupted)", "\u{1b}[?25h"] {
            assert!(after.contains(words), "{words}: {after:?}");
        }
    }
}

#[test]
fn keys_save_sample_and_stop_and_the_terminal_is_given_back() {
    let project = Project::new();
    project.set(&[
        ("save_every = 4", "save_every = 100000"),
        ("eval_every = 6", "eval_every = 0"),
        ("sample_every = 6", "sample_every = 0"),
    ]);
    let mut terminal = Terminal::start(&project, "run", &[]);
    terminal.wait_for_times("images/s", 1);
    assert!(!terminal.is_as_before(), "keys arrive one by one");
    let run = project.path("run");
    assert!(!run.join(FILE).exists());
    terminal.press(b's');
    wait_for(|| run.join(FILE).exists());
    let samples = || {
        std::fs::read_dir(&run).unwrap().any(|f| f.unwrap().file_name().to_string_lossy().ends_with(".png"))
    };
    assert!(!samples());
    terminal.press(b'p');
    wait_for(samples);
    terminal.wait_for_times("▀", 20);
    let text = terminal.text();
    // Spaces that are there already are not written again.
    for words in ["duet train", "memory", "learning", "noise", "q stop and save"] {
        assert!(text.contains(words), "{words}: {text:?}");
    }
    let before = step(&run);
    terminal.press(b'q');
    terminal.ends(1);
    assert!(step(&run) > before, "stopping saves");
}

#[test]
fn control_c_and_a_polite_kill_give_the_terminal_back() {
    let project = Project::new();
    for way in ["key", "-TERM"] {
        let mut terminal = Terminal::start(&project, way, &[]);
        let file = project.path(way).join(FILE);
        wait_for(|| file.exists());
        if way == "key" {
            terminal.press(3)
        } else {
            terminal.signal(way)
        }
        terminal.ends(1);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_suspended_run_gives_the_terminal_back_and_takes_it_again() {
    let project = Project::new();
    let mut terminal = Terminal::start(&project, "run", &[]);
    wait_for(|| project.path("run").join(FILE).exists());
    let file = format!("/proc/{}/stat", terminal.child.id());
    let stopped = || {
        let stat = std::fs::read_to_string(&file).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
    };
    for (times, way) in ["key", "-TSTP"].into_iter().enumerate() {
        if way == "key" {
            terminal.press(26)
        } else {
            terminal.signal(way)
        }
        wait_for(stopped);
        assert!(terminal.is_as_before(), "{way}");
        terminal.wait_for_times(GIVEN_BACK, times + 1);
        terminal.signal("-CONT");
        terminal.wait_for_times(TAKEN, times + 2);
        wait_for(|| !terminal.is_as_before());
    }
    // Stopped without a word, and woken.
    terminal.signal("-STOP");
    wait_for(stopped);
    terminal.signal("-CONT");
    terminal.wait_for_times(TAKEN, 4);
    terminal.press(b'q');
    terminal.ends(4);
}

#[test]
fn lines_are_printed_where_they_are_wanted() {
    let project = Project::new();
    let mut terminal = Terminal::start(&project, "run", &["--plain"]);
    let file = project.path("run").join(FILE);
    wait_for(|| file.exists());
    terminal.signal("-INT");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
    wait_for(|| terminal.text().contains("(interrupted)"));
    assert!(!terminal.text().contains(TAKEN) && terminal.is_as_before());
}

#[test]
#[ignore = "needs Python with TensorBoard, which `make slow-test` installs"]
fn tensorboard_reads_event_files() {
    let project = Project::new();
    project.train("run", &["--tensorboard", "--steps", "8"]);
    project.train("run", &["--tensorboard", "--resume"]);
    let python = std::env::var("DUET_TENSORBOARD").expect("DUET_TENSORBOARD names a Python with TensorBoard");
    let script = "\
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
run = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'images': 0})
run.Reload()
tags = run.Tags()
print(json.dumps({
    'scalars': {tag: [[e.step, e.value] for e in run.Scalars(tag)] for tag in tags['scalars']},
    'images': {tag: [[e.step, e.width, e.height] for e in run.Images(tag)] for tag in tags['images']},
}))";
    let output = Command::new(python).args(["-c", script, &project.text("run")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = super::training::figures(&project.path("run"));
    for (tag, figure) in [
        ("train/loss", "loss"),
        ("train/learning_rate", "learning_rate"),
        ("speed/images_per_second", "images_per_second"),
        ("test/accuracy", "test_accuracy"),
    ] {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs();
        let want: Vec<(u64, f64)> =
            lines.iter().filter_map(|line| Some((line["step"].as_u64()?, line[figure].as_f64()?))).collect();
        let got = read["scalars"][tag].as_array().unwrap_or_else(|| panic!("{tag}: {read}"));
        assert_eq!(got.len(), want.len(), "{tag}: {read}");
        for (got, (step, value)) in got.iter().zip(want) {
            assert!(got[0] == step && close(got[1].as_f64().unwrap(), value), "{tag}: {read}");
        }
    }
    let grid = image::open(project.path("run/samples_0000012.png")).unwrap();
    let images = read["images"]["samples"].as_array().unwrap();
    assert_eq!(images.last().unwrap(), &serde_json::json!([12, grid.width(), grid.height()]), "{read}");
}
