//! Several processes train one model: with the bits of one, gone on with by any number, ended by signals and kills. Real ones are
//! started by `mpirun`, where the program was built with the feature `mpi` as `make test` does; the library's tests of ranks have threads.

use super::{Project, program};

#[test]
fn a_program_without_its_mpi_refuses_to_train_several_times_over() {
    let project = Project::new();
    let (recipe, out) = (project.text("recipe.toml"), project.text("run"));
    let output = program()
        .args(["train", &recipe, "--out", &out])
        .env("SLURM_STEP_NUM_TASKS", "2")
        .env("SLURM_NTASKS", "2")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("srun started 2 processes"), "{error}");
    // Built with MPI it knows of one, for no MPI started it.
    let words = if cfg!(feature = "mpi") { "MPI knows of 1" } else { "--features duet-trainer/mpi" };
    assert!(error.contains(words) && output.status.code() == Some(1), "{error}");
    assert!(!project.path("run").exists());
}

#[cfg(all(feature = "mpi", unix))]
pub mod real {
    use super::super::training::{FILE, figures, state, step, wait_for};
    use super::super::{Project, cache};
    use duet::rng::{Seed, Stream, uniform_u32_below};
    use std::process::{Child, Command, Output, Stdio};
    use std::time::{Duration, Instant};

    /// `mpirun` of so many processes that train.
    fn mpirun(count: usize, project: &Project, run: &str, more: &[&str]) -> Command {
        let mut command = launcher();
        command.args(["-n", &count.to_string()]).args(train(project, run, more));
        command
    }

    /// `mpirun`, on one machine of few cores, root's or not.
    pub fn launcher() -> Command {
        let mut command = Command::new("mpirun");
        command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
        command.args(["--mca", "odls_base_sigkill_timeout", "2"]);
        command.env("DUET_CACHE", cache()).stdin(Stdio::null());
        command
    }

    fn train(project: &Project, run: &str, more: &[&str]) -> Vec<String> {
        let first = [env!("CARGO_BIN_EXE_duet"), "train", &project.text("recipe.toml"), "--out"];
        let out = project.text(run);
        first.into_iter().chain([out.as_str()]).chain(more.iter().copied()).map(str::to_owned).collect()
    }

    /// What it says, and its errors as text.
    pub fn output(mut command: Command) -> (Output, String) {
        let output = command.output().expect("mpirun of Open MPI (openmpi-bin)");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, error)
    }

    /// What it prints where it succeeds.
    pub fn ok(command: Command) -> String {
        let (output, error) = output(command);
        assert!(output.status.success(), "{error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Losses that were logged, in all digits.
    fn losses(project: &Project, run: &str) -> Vec<String> {
        let names = ["step", "loss", "mse", "classifier_loss", "learning_rate", "test_accuracy"];
        let of = |line: &serde_json::Value| names.map(|name| line[name].to_string()).join(" ");
        figures(&project.path(run)).iter().map(of).collect()
    }

    /// Two micro-batches, of which a checkpoint tells where the recipe says another number.
    const STEPS: [&str; 3] = ["--steps", "8", "--batch=8"];

    #[test]
    fn two_processes_train_as_one_does_and_any_number_goes_on() {
        let project = Project::new();
        project.train("whole", &[&STEPS[..], &["--set", "train.micro_batches=2"]].concat());
        let text = ok(mpirun(2, &project, "two", &STEPS));
        assert!(text.contains("step 8 of 8") && text.contains("2 processes, each sent"), "{text}");
        assert_eq!(text.matches("step 8 of 8").count(), 1, "one of them tells: {text}");
        assert!(state(&project.path("two")) == state(&project.path("whole")));
        assert_eq!(losses(&project, "two"), losses(&project, "whole"));
        let last = &figures(&project.path("two"))[3];
        assert!(last["exchange_bytes"].as_f64().unwrap() > 1e4 && last["exchange_seconds"].is_number());
        assert!((0.0..=1.0).contains(&last["exchange_overlap"].as_f64().unwrap()), "{last}");
        // Gone on with by one, then by two, and by three, of which one has nothing to do.
        let more = |steps: &'static str| ["--resume=auto", "--steps", steps, "--batch=8"];
        ok(mpirun(2, &project, "parts", &more("3")));
        project.train("parts", &more("4"));
        let three =
            mpirun(3, &project, "parts", &[&more("8")[..], &["--set", "train.micro_batches=4"]].concat());
        let (refused, error) = output(three);
        assert!(!refused.status.success() && error.contains("train.micro_batches was 1, is 4"), "{error}");
        assert_eq!(error.matches("micro_batches was").count(), 1, "{error}");
        ok(mpirun(2, &project, "parts", &more("8")));
        assert!(state(&project.path("parts")) == state(&project.path("whole")));
    }

    #[test]
    fn what_does_not_fit_is_told_once_and_leaves_nothing() {
        let project = Project::new();
        let refused = |command: Command, words: &[&str]| {
            let (output, error) = output(command);
            assert!(!output.status.success(), "{error}");
            assert!(!error.contains("panicked"), "{error}");
            for word in words {
                assert_eq!(error.matches(word).count(), 1, "{word} in {error}");
            }
        };
        let words = ["batch_size: 4 images cannot be cut", "for 3 processes", "use as many processes: 2"];
        refused(mpirun(3, &project, "run", &[]), &words);
        assert!(!project.path("run").join(FILE).exists());
        // Two command lines.
        let mut both = launcher();
        both.args(["-n", "1"]).args(train(&project, "run", &["--lr", "1e-3"]));
        both.args([":", "-n", "1"]).args(train(&project, "run", &["--lr", "2e-3"]));
        refused(both, &["has a recipe other than those of the first process"]);
        // A machine that has no data.
        let mut elsewhere = launcher();
        elsewhere.args(["-n", "1"]).args(train(&project, "run", &[]));
        elsewhere.args([":", "-n", "1"]).args(train(&project, "run", &["--data", "/nonexistent"]));
        refused(elsewhere, &["/nonexistent"]);
    }

    /// The processes that `mpirun` started.
    pub fn children(of: &Child) -> Vec<String> {
        let list = Command::new("ps").args(["-o", "pid=", "--ppid", &of.id().to_string()]).output().unwrap();
        String::from_utf8(list.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
    }

    /// Sends a signal.
    pub fn signal(name: &str, pid: &str) {
        let _ = Command::new("kill").args([name, pid]).stderr(Stdio::null()).status();
    }

    /// Waits for the end of processes: one that is killed may outlive its launcher until its memory is freed.
    pub fn gone(pids: &[String]) {
        let there = |pid: &String| {
            Command::new("kill").args(["-0", pid]).stderr(Stdio::null()).status().unwrap().success()
        };
        wait_for(|| !pids.iter().any(there));
    }

    /// Begins, and shows nothing.
    pub fn begin(mut command: Command) -> Child {
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mpirun of Open MPI (openmpi-bin)")
    }

    #[test]
    fn a_signal_to_any_process_ends_all_with_one_checkpoint() {
        let project = Project::new();
        let endless = ["--resume=auto", "--steps", "100000", "--batch=8", "--set", "train.sample_every=0"];
        let file = project.path("run").join(FILE);
        let mut before = 0;
        // Slurm's warning to one of them; a polite kill of the other; the same of the launcher, which tells them all.
        for (name, which) in [("-USR1", Some(1)), ("-TERM", Some(0)), ("-TERM", None)] {
            let mut child = begin(mpirun(2, &project, "run", &endless));
            wait_for(|| {
                file.exists() && step(&project.path("run")) > before || child.try_wait().unwrap().is_some()
            });
            let pids = children(&child);
            assert_eq!(pids.len(), 2, "{name}");
            let launcher = child.id().to_string();
            signal(name, which.map_or(&launcher, |which: usize| &pids[which]));
            let status = child.wait().unwrap();
            gone(&pids);
            // Open MPI's launcher, when it is asked to stop itself, has an exit code of its own.
            assert!(status.success() || which.is_none(), "{name} {which:?}: {status}");
            before = step(&project.path("run"));
        }
        assert!(before > 3);
        super::super::weights(&file);
    }

    #[test]
    fn processes_that_are_killed_lose_nothing_saved() {
        survive(2);
    }

    #[test]
    #[ignore = "minutes: 50 kills"]
    fn processes_survive_many_kills() {
        survive(50);
    }

    /// Kills a process of a run again and again, which one, two or four go on with; in the end it is as if that had never been.
    fn survive(wanted: u32) {
        let project = Project::new();
        project.set(&[("save_every = 4", "save_every = 1"), ("log_every = 2", "log_every = 1")]);
        project.set(&[("eval_every = 6", "eval_every = 5"), ("sample_every = 6", "sample_every = 0")]);
        let steps = (6 * wanted + 8).to_string();
        let more = ["--resume=auto", "--steps", &steps, "--batch=8", "--set", "train.micro_batches=4"];
        let (run, file) = (project.path("run"), project.path("run").join(FILE));
        let start = Instant::now();
        project.train("whole", &more);
        let pace = start.elapsed() / (6 * wanted + 8);
        let mut before = 0;
        for number in 0..wanted {
            let count = [2, 4, 1][number as usize % 3];
            let mut child = begin(mpirun(count, &project, "run", &more));
            let now = || if file.exists() { step(&run) } else { 0 };
            wait_for(|| now() > before || child.try_wait().unwrap().is_some());
            let micros = u32::try_from((4 * pace).as_micros()).unwrap().max(1);
            let random = |what, most| uniform_u32_below(most, Seed(7), Stream::Shuffle, number, what);
            std::thread::sleep(Duration::from_micros(random(0, micros).into()));
            let pids = children(&child);
            if let Some(pid) = pids.get(random(1, pids.len().max(1) as u32) as usize) {
                signal("-KILL", pid);
            }
            child.wait().unwrap();
            gone(&pids);
            // Reading it is the test that it is whole.
            assert!(step(&run) >= before);
            before = step(&run);
        }
        ok(mpirun(2, &project, "run", &more));
        assert!(state(&run) == state(&project.path("whole")), "other bits than those of a run without kills");
        // Of a step that was saved and then killed while it was tested there is no accuracy; all its losses are there.
        let without = |run: &str| -> Vec<String> {
            let lines = losses(&project, run).into_iter();
            lines
                .map(|line| line.rsplit_once(' ').map_or(String::new(), |(losses, _)| losses.to_owned()))
                .collect()
        };
        assert!(without("run") == without("whole"), "other losses were logged than in a run without kills");
    }
}
