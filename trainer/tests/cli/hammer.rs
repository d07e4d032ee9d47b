//! `kill -9` at random moments of starting, training, saving, testing, drawing and exporting: what is there afterwards is whole,
//! and in the end nothing tells that there were kills. The slow tests kill two hundred times.

use super::training::{FILE, figures, rubbish, state, step, wait_for};
use super::{Project, duet, ok, weights};
use duet::rng::{Seed, Stream, uniform_u32_below};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A moment within `span`: the `number`-th of a fixed sequence.
fn moment(number: u32, span: Duration) -> Duration {
    let micros = u32::try_from(span.as_micros()).unwrap().max(1);
    Duration::from_micros(uniform_u32_below(micros, Seed(11), Stream::Shuffle, number, 0).into())
}

/// Kills `child`; whether it was still there.
fn kill(child: &mut Child) -> bool {
    let there = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    there
}

fn steps_of_figures(run: &Path) -> Vec<u64> {
    figures(run).iter().map(|line| line["step"].as_u64().unwrap()).collect()
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_it_never_was() {
    training_survives(6);
}

#[test]
#[ignore = "minutes: 160 kills"]
fn a_run_survives_many_kills() {
    training_survives(160);
}

#[test]
fn a_killed_export_leaves_the_old_file_or_the_new_one() {
    exporting_survives(2);
}

#[test]
#[ignore = "a minute: 40 kills"]
fn an_export_survives_many_kills() {
    exporting_survives(40);
}

fn training_survives(wanted: u32) {
    let project = Project::new();
    // Much of the time is spent on saving, testing and drawing.
    project.set(&[("save_every = 4", "save_every = 1"), ("log_every = 2", "log_every = 1")]);
    project.set(&[("eval_every = 6", "eval_every = 5"), ("sample_every = 6", "sample_every = 7")]);
    let steps = u64::from(5 * wanted + 10);
    let more = ["--resume=auto", "--steps", &steps.to_string()];
    let (run, file) = (project.path("run"), project.path("run").join(FILE));
    let saved = || std::fs::metadata(&file).and_then(|found| found.modified()).ok();
    let begin = Instant::now();
    let mut child = project.command("whole", &more).spawn().unwrap();
    wait_for(|| project.path("whole").join(FILE).exists());
    let start = begin.elapsed();
    assert!(child.wait().unwrap().success());
    let one = (begin.elapsed() - start) / (steps as u32 - 1);

    let (mut done, mut while_saving, mut before, mut ended) = (0, 0, 0, 0);
    while done < wanted {
        let mut child = project.command("run", &more).spawn().unwrap();
        let last = saved();
        if done % 4 > 0 {
            // In the midst of its steps.
            wait_for(|| saved() != last || child.try_wait().unwrap().is_some());
            std::thread::sleep(moment(done, 5 * one));
        } else {
            std::thread::sleep(moment(done, start));
        }
        if !kill(&mut child) {
            // Quicker than the first one, at whose pace kills are planned: another run is begun.
            as_if_never_killed(&run, &project.path("whole"), steps);
            std::fs::remove_dir_all(&run).unwrap();
            (before, ended) = (0, ended + 1);
            continue;
        }
        done += 1;
        if file.exists() {
            // Reading it is the test that it is whole.
            let now = step(&run);
            assert!((before..=steps).contains(&now), "{now} after {before}");
            before = now;
        } else {
            assert_eq!(before, 0, "a checkpoint was lost");
        }
        let left = if run.exists() { rubbish(&run) } else { Vec::new() };
        assert!(left.len() <= 1, "{left:?}");
        while_saving += left.len();
    }
    ok(&["train", &project.text("recipe.toml"), "--out", &project.text("run"), more[0], more[1], more[2]]);
    as_if_never_killed(&run, &project.path("whole"), steps);
    println!(
        "{done} kills in {} runs of {steps} steps, {while_saving} while a file was being written",
        ended + 1
    );
}

/// Whether a finished run holds what one without kills does, and nothing else.
fn as_if_never_killed(run: &Path, whole: &Path, steps: u64) {
    assert_eq!(step(run), steps);
    assert!(state(run) == state(whole), "other bits than those of a run without kills");
    let every: Vec<u64> = (1..=steps).collect();
    assert!(steps_of_figures(run) == every && steps_of_figures(whole) == every);
    for entry in std::fs::read_dir(run).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if ![FILE, "metrics.jsonl", ".lock"].contains(&&*name) {
            assert!(name.starts_with("samples_") && image::open(run.join(&name)).is_ok(), "{name}");
        }
    }
}

fn exporting_survives(wanted: u32) {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let model = project.text(&format!("run/{FILE}"));
    let folder = project.path("shipped");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("model.safetensors");
    let (out, whole) = (file.to_string_lossy().into_owned(), project.text("whole.safetensors"));
    let begin = Instant::now();
    ok(&["export", "--model", &model, "--out", &whole]);
    let took = begin.elapsed();
    let new = std::fs::read(&whole).unwrap();
    let old = std::fs::read(&model).unwrap();
    let (mut renewed, mut while_writing) = (0, 0);
    for number in 0..wanted {
        std::fs::write(&file, &old).unwrap();
        let mut child = super::program()
            .args(["export", "--model", &model, "--out", &out])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(moment(number, took));
        kill(&mut child);
        let found = std::fs::read(&file).unwrap();
        assert!(found == old || found == new, "neither the old file nor the new one");
        weights(&file);
        renewed += u32::from(found == new);
        assert!(rubbish(&folder).len() <= 1, "{:?}", rubbish(&folder));
        while_writing += rubbish(&folder).len();
    }
    println!(
        "{wanted} kills, {renewed} after the new file was there, {while_writing} while it was being written"
    );
    assert!(duet(&["export", "--model", &model, "--out", &out]).status.success());
    assert!(std::fs::read(&file).unwrap() == new && rubbish(&folder).is_empty());
}
