//! Commands that `mpirun` starts several times: those that compute in parts print and write what one process does, and the others write
//! nothing twice.

use super::{Project, program};

/// As one of two processes that Slurm started and no MPI knows of.
fn one_of_two(arguments: &[&str]) -> (Option<i32>, String) {
    let output = program().args(arguments).env("SLURM_STEP_NUM_TASKS", "2").output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_several_processes_would_write_is_refused_and_what_they_print_is_not() {
    let project = Project::new();
    let at = |name: &str| project.text(name);
    let (recipe, out) = (at("recipe.toml"), at("out"));
    let refused: [&[&str]; 17] = [
        &["frontier", "--model", "m", "--judge", "j", "--out", &out],
        &["place", "--model", "m", "--data", "d", "--out", &out],
        &["merge", "shards", "--out", &out],
        &["study", "--model", "m", "--step-sizes", "0,1", "--out", &out],
        &["experiment", "table6", "--out", &out],
        &["audit", "--model", "m", "--out", &out],
        &["serve", "m"],
        &["export", "--model", "m", "--out", &out],
        &["import", "m.pt", "--out", &out],
        &["export-images", "--recipe", &recipe, "--out", &out],
        &["augment", "--recipe", &recipe, "--out", &out],
        &["tune", "--out", &out],
        &["check", "--full", "--report", &out],
        &["data", "info", &at("data"), "--sheet", &out],
        &["data", "get", "mnist", "--to", &out],
        &["data", "cache", "--clear"],
        &["export", "--model", "m", "--pt", &out],
    ];
    for arguments in refused {
        let (code, said) = one_of_two(arguments);
        let words = ["srun started 2 processes", "the work of one", arguments[0]];
        assert!(code == Some(1) && words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
        assert!(!project.path("out").exists(), "{arguments:?}");
    }
    // Those that share their work say how several processes get to know of each other.
    for command in ["eval", "sample", "explain"] {
        let line = [command, "--model", "m", "--out", &out, "a.png"];
        let line = match command {
            "eval" => &line[..3],
            "sample" => &line[..5],
            _ => &line[..],
        };
        let (code, said) = one_of_two(line);
        let words = if cfg!(feature = "mpi") { "MPI knows of 1" } else { "--features duet-trainer/mpi" };
        assert!(
            code == Some(1) && said.contains("srun started 2 processes") && said.contains(words),
            "{said}"
        );
        assert!(!project.path("out").exists());
    }
    for arguments in
        [&["data", "list"][..], &["info", &recipe], &["experiment", "list"], &["data", "info", &at("data")]]
    {
        let (code, said) = one_of_two(arguments);
        assert!(code == Some(0), "{arguments:?}: {said}");
    }
}

#[cfg(all(feature = "mpi", unix))]
mod real {
    use super::super::processes::real::{begin, children, gone, launcher, ok, output, signal};
    use super::super::shards::{differ, json, same, tree};
    use super::super::training::wait_for;
    use super::super::{Project, fails};
    use std::path::Path;
    use std::process::Command;

    const DUET: &str = env!("CARGO_BIN_EXE_duet");

    /// So many processes, whose temporary files lie in the project's folder `tmp`.
    fn mpirun(count: usize, project: &Project, arguments: &[&str]) -> Command {
        let mut command = start(project);
        command.args(["-n", &count.to_string(), DUET]).args(arguments);
        command
    }

    fn start(project: &Project) -> Command {
        let mut command = launcher();
        std::fs::create_dir_all(project.path("tmp")).unwrap();
        command.env("TMPDIR", project.path("tmp"));
        command
    }

    /// What the processes left of their own in the temporary folder; MPI's files are MPI's.
    fn left(project: &Project) -> Vec<String> {
        let entries = std::fs::read_dir(project.path("tmp")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("duet-")).collect()
    }

    fn taken(paths: &[&String]) -> Vec<Vec<u8>> {
        let taken = |path: &&String| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::remove_file(path).unwrap();
            bytes
        };
        paths.iter().map(taken).collect()
    }

    #[test]
    fn two_processes_print_and_write_what_one_does() {
        let project = Project::new();
        project.train("run", &["--steps", "4"]);
        let at = |name: &str| project.text(name);
        let model = at("run/checkpoint.safetensors");
        let line = [
            "--json",
            "eval",
            "--model",
            &model,
            "--batch",
            "2",
            "--loss-images",
            "5",
            "--metrics",
            "fid,ece",
        ];
        let line = [&line[..], &["--samples", "9", "--sample-steps", "2"]].concat();
        same(&super::super::ok(&line), &ok(mpirun(2, &project, &line)));

        let [out, npz, shards] = ["a.png", "a.npz", "kept"].map(at);
        let line = [
            "sample", "--model", &model, "--steps", "2", "-n", "3", "--batch", "2", "--out", &out, "--npz",
            &npz,
        ];
        let whole = (super::super::ok(&line), taken(&[&out, &npz]));
        // In a folder that is named the parts stay.
        let several = ok(mpirun(2, &project, &[&line[..], &["--shards", &shards]].concat()));
        assert!((several, taken(&[&out, &npz])) == whole);
        super::super::ok(&["merge", &shards]);
        assert!(taken(&[&out, &npz]) == whole.1);

        // Of three processes one has nothing to do; a picture that cannot be read is told once.
        std::fs::write(project.path("bad.png"), "no picture").unwrap();
        let pictures = ["data/dark/0.png", "bad.png", "data/light/0.png"].map(at);
        let line = ["--json", "explain", "--model", &model, "--batch", "1", "--steps", "10", "--out", &out];
        let mut line = line.to_vec();
        line.extend(pictures.iter().map(String::as_str));
        let one = super::super::duet(&line);
        let picture = taken(&[&out]);
        let (several, error) = output(mpirun(3, &project, &line));
        assert!(!several.status.success() && error.matches("bad.png: is no PNG").count() == 1, "{error}");
        assert_eq!(error.matches("1 of 3 could not be read").count(), 1, "{error}");
        let [one, several] = [&one, &several].map(|output| json(&String::from_utf8_lossy(&output.stdout)));
        assert_eq!(differ(&one, &several, ""), None);
        assert!(taken(&[&out]) == picture);

        let [one, two] = ["one", "two"].map(at);
        let line = [
            "--json", "explain", "--model", &model, "--steps", "10", "--batch", "1", "--all", "--count", "7",
        ];
        let line = [&line[..], &["--out"]].concat();
        let whole = super::super::ok(&[&line[..], &[&one]].concat());
        let line = [&line[..], &[two.as_str()]].concat();
        let several = ok(mpirun(2, &project, &line));
        assert_eq!(differ(&json(&whole)["results"], &json(&several)["results"], ""), None);
        let [one, two] = ["one", "two"].map(|name| tree(&project.path(name)));
        assert!(one.keys().eq(two.keys()), "{:?} {:?}", one.keys(), two.keys());
        one.iter().for_each(|(name, bytes)| assert!(&two[name] == bytes, "{name}"));
        let lists = std::fs::read_dir(project.path("two/Results/duet")).unwrap();
        let lists =
            lists.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "jsonl"));
        assert_eq!(lists.count(), 1, "no list of a part stays");
        assert_eq!(left(&project), [""; 0]);
    }

    #[test]
    fn what_is_wrong_with_one_or_all_is_told_once_and_leaves_nothing() {
        let project = Project::new();
        project.train("run", &["--steps", "2"]);
        let at = |name: &str| project.text(name);
        let [model, out, npz] = ["run/checkpoint.safetensors", "out.png", "out.npz"].map(at);
        let nothing = || {
            assert!(!Path::new(&out).exists());
            assert_eq!(left(&project), [""; 0]);
        };
        let refused = |command: Command, words: &[&str]| {
            let (output, error) = output(command);
            assert!(!output.status.success() && output.stdout.is_empty(), "{error}");
            assert!(!error.contains("panicked"), "{error}");
            for word in words {
                assert_eq!(error.matches(word).count(), 1, "{word} in {error}");
            }
            nothing();
        };
        let line = ["sample", "--model", &model, "--out", &out, "-n", "2000"];
        let long = &[&line[..], &["--npz", &npz]].concat()[..];
        let part = [&line[..], &["--shard", "1/2"]].concat();
        refused(mpirun(2, &project, &part), &["is 1/2, but 2 processes", "divide the images themselves"]);
        let mut both = mpirun(2, &project, &line);
        both.env("DUET_SHARD", "2/2");
        refused(both, &["is 2/2, but 2 processes"]);
        refused(
            mpirun(2, &project, &["sample", "--model", "none.safetensors", "--out", &out]),
            &["none.safetensors"],
        );
        refused(mpirun(2, &project, &[&line[..5], &["--class", "hat", "-n", "1"]].concat()), &["\"hat\""]);
        let mut two = start(&project);
        two.args(["-n", "1", DUET]).args(long).args([":", "-n", "1", DUET]).args(line);
        refused(two, &["has a command line or a version other than those of the first process"]);
        let bad = at("recipe.toml/parts");
        refused(mpirun(2, &project, &[long, &["--shards", &bad]].concat()), &["recipe.toml/parts"]);
        fails(&[long, &["--shards", &at("parts")]].concat(), &["shards", "--shard I/N"]);

        // One alone, long before the other would be done.
        let mut alone = start(&project);
        alone
            .args(["-n", "1", DUET])
            .args(long)
            .args([":", "-n", "1", "env", "DUET_ADAPTER=no such card", DUET])
            .args(long);
        refused(alone, &["process 1 on ", "no such card"]);
        // Another one is killed, and the launcher is told to stop.
        for (name, which) in [("-KILL", Some(1)), ("-TERM", None)] {
            let mut child = begin(mpirun(2, &project, long));
            wait_for(|| !left(&project).is_empty() || child.try_wait().unwrap().is_some());
            std::thread::sleep(std::time::Duration::from_secs(1));
            let pids = children(&child);
            assert_eq!(pids.len(), 2, "{name}");
            let launcher = child.id().to_string();
            signal(name, which.map_or(&launcher, |which: usize| &pids[which]));
            assert!(!child.wait().unwrap().success(), "{name}");
            gone(&pids);
            nothing();
        }
    }
}
