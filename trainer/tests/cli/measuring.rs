//! `duet bench`, `duet tune` and `duet check`.

use super::{Project, duet, fails, ok};
use duet::families::{Family, Measured};
use std::path::Path;
use std::process::Stdio;

/// The benchmark's JSON of a tiny model's whole steps.
fn bench(project: &Project, more: &[&str]) -> serde_json::Value {
    let recipe = project.text("recipe.toml");
    let mut arguments = vec!["--json", "bench", "--model", &recipe, "--batch", "2", "--seconds", "0"];
    arguments.extend(more);
    serde_json::from_str(&ok(&arguments)).unwrap()
}

fn positive(line: &serde_json::Value, field: &str) {
    assert!(line[field].as_f64().unwrap() > 0.0, "{}: {field}", line["name"]);
}

#[test]
fn a_benchmark_has_every_line_in_positive_numbers() {
    let project = Project::new();
    let report = bench(&project, &["--steps-only"]);
    assert_eq!(report["schema"], 1);
    assert_eq!(report["model"], "recipe");
    let lines = report["lines"].as_array().unwrap();
    let names: Vec<&str> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    let steps = [
        "classify recipe b2",
        "eps recipe b2",
        "denoising step recipe b2",
        "guided step recipe b2",
        "training step, noise only, recipe b2",
        "training step, noised classifier, recipe b2",
        "training step, clean classifier, recipe b2",
        "training step, both classifiers, recipe b2",
    ];
    assert_eq!(&names[..8], &steps);
    assert_eq!(names.len(), 11, "{names:?}");
    for line in &lines[..8] {
        let rates = ["gflops", "gigabytes_per_second", "images_per_second", "pipelines"];
        for field in ["seconds", "multiply_adds", "bytes", "dispatches"].iter().chain(&rates) {
            positive(line, field);
        }
        let memory = |field: &str| line["memory"][field].as_u64().unwrap();
        assert!(memory("lower_bound_bytes") > 0 && memory("lower_bound_bytes") <= memory("planned_bytes"));
        assert!(memory("planned_bytes") <= memory("unshared_bytes"));
        // Beside what was planned only the uniforms are allocated: at most 256 bytes a dispatch, and the few of the plan that
        // applies gradients where no image has a label; of the few dispatches with a table 6 KiB.
        let uniforms = 256 * (line["dispatches"].as_u64().unwrap() + 8) + (160 << 10);
        let more = memory("allocated_bytes") - memory("planned_bytes");
        assert!(more > 0 && more <= uniforms, "{}: {more} bytes of {uniforms}", line["name"]);
        assert_eq!(memory("live_bytes"), memory("allocated_bytes") + memory("named_bytes"));
    }
    for line in &lines[8..] {
        assert_eq!(line["kind"], "start_up");
        positive(line, "seconds");
    }
    assert!(lines[9]["pipelines"].as_u64().unwrap() > 20, "{}", lines[9]);

    let report = bench(&project, &["--only", "32x32 s1 b4"]);
    let lines = report["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 3, "a convolution and its two gradients");
    for line in lines {
        for field in ["seconds", "multiply_adds", "bytes", "dispatches", "gflops", "times_naive"] {
            positive(line, field);
        }
    }
    let text = ok(&["bench", "--only", "upsample", "--batch", "2", "--seconds", "0"]);
    assert!(text.contains("GB/s") && text.contains("upsample 64 14x14 b2 grad_input"), "{text}");
    fails(&["bench", "--only", "no such line"], &["no such line"]);
    fails(&["bench", "--model", "nowhere.toml"], &["nowhere.toml"]);
    fails(&["bench", "--batch", "1"], &["batch"]);
}

#[test]
fn a_profile_says_where_a_step_s_time_goes() {
    let project = Project::new();
    let only = "training step, noised classifier";
    // Which family of kernels runs is the device's choice; here their names are known.
    let direct = project.text("direct.json");
    let name = bench(&project, &["--only", "eps"])["device"].clone();
    let table = serde_json::json!({
        "format": 1, "adapter": name, "measured": "not at all", "otherwise": "direct", "choices": [],
    });
    std::fs::write(&direct, table.to_string()).unwrap();
    let report = bench(&project, &["--profile", "--only", only, "--tuning", &direct]);
    let profile = &report["profiles"][0];
    assert_eq!(report["profiles"].as_array().unwrap().len(), 1);
    for table in ["by_kernel", "by_shape"] {
        let rows = profile[table].as_array().unwrap();
        let sum = |field: &str| rows.iter().map(|row| row[field].as_f64().unwrap()).sum::<f64>();
        assert!((sum("share") - 1.0).abs() < 1e-6, "{table}");
        assert!((sum("seconds") - profile["seconds"].as_f64().unwrap()).abs() < 1e-6, "{table}");
        assert_eq!(sum("calls") as u64, profile["launches"].as_u64().unwrap(), "{table}");
        let times: Vec<f64> = rows.iter().map(|row| row["seconds"].as_f64().unwrap()).collect();
        assert!(times[0] > 0.0 && times.is_sorted_by(|a, b| a >= b), "{table}: {times:?}");
    }
    let kernels = profile["by_kernel"].as_array().unwrap();
    for kernel in ["conv3x3/forward", "conv3x3_weight/grad_weight", "optimizer/adamw_ema"] {
        assert!(kernels.iter().any(|row| row["kernel"] == kernel), "{kernel}");
    }
    let text = ok(&[
        "bench",
        "--model",
        &project.text("recipe.toml"),
        "--profile",
        "--only",
        "eps",
        "--seconds",
        "0",
        "--tuning",
        &direct,
    ]);
    assert!(text.contains("conv3x3/forward 8x8x8x1 -> 8x8x8x8"), "{text}");
}

#[test]
fn a_roofline_says_how_far_kernels_are_from_what_the_device_can_do() {
    let project = Project::new();
    let report = bench(&project, &["--roofline", "--only", "eps"]);
    for field in ["bytes_per_second", "multiply_adds_per_second"] {
        positive(&report["peaks"], field);
    }
    let profile = &report["profiles"][0];
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let bound = number(&profile["bound_seconds"]);
    assert!(bound > 0.0 && bound < number(&profile["seconds"]), "{profile}");
    for table in ["by_kernel", "by_shape"] {
        let rows = profile[table].as_array().unwrap();
        let sum: f64 = rows.iter().map(|row| number(&row["bound_seconds"])).sum();
        assert!((sum - bound).abs() < 1e-6 * bound, "{table}");
    }
    let recipe = project.text("recipe.toml");
    let text = ok(&["bench", "--model", &recipe, "--roofline", "--only", "eps", "--seconds", "0"]);
    for part in ["multiply-adds/s of f32", "a launch that does nothing takes", "could win", "bound by"] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

#[test]
fn two_benchmarks_are_compared_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let line = |name: &str, variant: &str, seconds: f64| {
        serde_json::json!({
            "name": name, "kind": "kernel", "variant": variant, "seconds": seconds, "multiply_adds": 1, "bytes": 16,
            "gflops": 1.0, "gigabytes_per_second": 1.0, "dispatches": 1, "times_naive": null,
            "images_per_second": null, "pipelines": null, "memory": null,
        })
    };
    let write = |name: &str, schema: u32, lines: &[serde_json::Value]| {
        let report = serde_json::json!({
            "schema": schema, "version": "0", "device": "d", "driver": "d", "backend": "b", "software": true,
            "model": "m", "parameters": 1, "unet_parameters": 1, "batch": 8, "lines": lines, "profiles": [],
        });
        std::fs::write(path(name), report.to_string()).unwrap();
    };
    let before = [("same", 2.0), ("worse", 1.0), ("better", 1.0), ("gone", 1.0)];
    write("before.json", 1, &before.map(|(name, seconds)| line(name, "default", seconds)));
    let mut after = [("same", 2.1), ("worse", 1.25), ("better", 0.5), ("new", 1.0)]
        .map(|(name, seconds)| line(name, "default", seconds))
        .to_vec();
    after.push(line("same", "wide", 1.0));
    write("after.json", 1, &after);
    write("other.json", 99, &[]);

    let (before, after) = (path("before.json"), path("after.json"));
    let json: serde_json::Value =
        serde_json::from_str(&ok(&["--json", "bench", "--compare", &before, &after])).unwrap();
    let rows: Vec<(&str, f64, bool)> = json["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| (l["name"].as_str().unwrap(), l["ratio"].as_f64().unwrap(), l["slower"].as_bool().unwrap()))
        .collect();
    assert_eq!(rows, [("same", 1.05, false), ("worse", 1.25, true), ("better", 0.5, false)]);
    assert_eq!(json["only_before"], serde_json::json!(["gone"]));
    assert_eq!(json["only_after"], serde_json::json!(["new", "same (wide)"]));
    let text = ok(&["bench", "--compare", &before, &after]);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("worse").contains("1.250") && row("worse").contains("SLOWER"), "{text}");
    assert!(!row("same").contains("SLOWER") && row("gone").contains("only before"), "{text}");

    std::fs::write(path("broken.json"), "{").unwrap();
    std::fs::write(path("list.json"), "[1]").unwrap();
    fails(&["bench", "--compare", &before, &path("nowhere.json")], &["nowhere.json", "cannot be read"]);
    fails(&["bench", "--compare", &path("broken.json"), &after], &["broken.json", "no JSON"]);
    fails(&["bench", "--compare", &before, &path("list.json")], &["list.json", "no result"]);
    fails(&["bench", "--against", &path("other.json")], &["other.json", "schema 99"]);
    let against = ["bench", "--against", &before, "--only", "upsample 64", "--batch", "2", "--seconds", "0"];
    let text = ok(&against);
    assert!(text.contains("upsample 64 14x14 b2 forward") && text.contains("only after"), "{text}");
}

#[test]
fn tune_keeps_a_table_that_later_commands_read() {
    let project = Project::new();
    let (recipe, table) = (project.text("recipe.toml"), project.text("tables/here.json"));
    let run = |arguments: &[&str]| {
        let mut command = super::program();
        command.args(arguments).env("XDG_CONFIG_HOME", project.path("config")).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let measured = run(&["tune", &recipe, "--seconds", "0", "--batch", "2", "--out", &table]);
    assert!(measured.0 && measured.1.contains("conv_forward batch=2 height=8"), "{measured:?}");
    let text = std::fs::read_to_string(&table).unwrap();
    let read = duet::families::Tuning::parse(Path::new(&table), &text).unwrap();
    let measured = |row: &Measured| (row.direct_ms.is_some(), row.tiled_ms.is_some());
    assert!(read.choices.iter().all(|row| measured(row) == (true, Family::Tiled.has(&row.key))));
    assert!(!read.choices.is_empty());

    // Without --out it goes where later commands look.
    let measured = run(&["--json", "tune", &recipe, "--seconds", "0", "--batch", "1"]);
    assert!(measured.0, "{measured:?}");
    let mut kept = std::fs::read_dir(project.path("config/duet/tuning")).unwrap();
    let kept = kept.next().unwrap().unwrap().path();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&std::fs::read_to_string(&kept).unwrap()), json(&measured.1));
    assert!(run(&["check"]).0);
    std::fs::write(&kept, text.replacen("\"batch\"", "\"bach\"", 1)).unwrap();
    let refused = run(&["check"]);
    assert!(!refused.0 && refused.2.contains("choices[0].shape.bach"), "{refused:?}");
    assert!(refused.2.contains(&*kept.to_string_lossy()), "{refused:?}");

    // A table named on the command line takes the folder's place, and must be of this adapter.
    assert!(run(&["check", "--tuning", &table]).0);
    let other = project.text("other.json");
    let changed = text.replacen(&format!("{:?}", read.adapter), "\"some other GPU\"", 1);
    std::fs::write(&other, changed).unwrap();
    let refused = run(&["check", "--tuning", &other]);
    assert!(
        !refused.0 && refused.2.contains("other.json") && refused.2.contains("some other GPU"),
        "{refused:?}"
    );
    assert!(!run(&["check", "--tuning", &project.text("none.json")]).0);
}

#[test]
fn every_operation_is_checked_and_reported() {
    let project = Project::new();
    let report = project.text("report.json");
    let said = ok(&["check", "--full", "--report", &report]);
    assert!(said.contains("convolution 3×3") && said.contains("normal noise"), "{said}");
    assert!(!said.contains("WRONG"), "{said}");
    let found: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    let operations = found["operations"].as_array().unwrap();
    assert!(operations.len() > 30 && operations.iter().all(|one| one["wrong"].is_null()), "{found}");
    for field in ["adapter", "driver", "backend", "version", "platform"] {
        assert!(found[field].is_string(), "{field}: {found}");
    }
    assert!(found["limits"]["workgroup_bytes"].as_u64().unwrap() >= 16_384, "{found}");
    assert!(found["beyond_direct"].is_boolean() && found["pipelines"].as_u64() > Some(30), "{found}");
    assert!(found["families"].as_array().unwrap().contains(&"direct".into()), "{found}");
    assert!(found["training_step"].is_null() && found["lost"].is_null(), "{found}");
    fails(&["check", "--full", "--report", "/nonexistent/report.json"], &["/nonexistent/report.json"]);
    let output = duet(&["check", "--report", &report]);
    assert_eq!(output.status.code(), Some(2), "a report is of the full check");
}
