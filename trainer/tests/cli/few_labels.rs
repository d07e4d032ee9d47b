//! Training with few labels from the command line.

use super::{Project, fails, weights};
use duet::checkpoint::Checkpoint;

fn few(project: &Project, by: &str, more: &str) {
    let recipe = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    let text = format!("{recipe}labelled_share = 0.4\nlabelled_by = \"{by}\"\nflip = true\n{more}");
    std::fs::write(project.path("recipe.toml"), text).unwrap();
}

fn head(checkpoint: &Checkpoint) -> Vec<&[f32]> {
    let of_head = checkpoint.weights.iter().filter(|(name, _)| name.starts_with("clasifier."));
    of_head.map(|(_, tensor)| tensor.data.as_slice()).collect()
}

#[test]
fn a_run_with_few_labels_goes_on_bit_for_bit_with_its_buffer() {
    for by in ["buffer", "batch"] {
        let project = Project::new();
        few(&project, by, "");
        let text = project.train("whole", &["--steps", "6"]);
        assert!(text.contains("learns from the labels of"), "{text}");
        project.train("parts", &["--steps", "1"]);
        let mut heads = vec![];
        for steps in 2..=6 {
            let before = weights(&project.path("parts/checkpoint.safetensors"));
            project.train("parts", &["--steps", &steps.to_string(), "--resume"]);
            let after = weights(&project.path("parts/checkpoint.safetensors"));
            heads.push(head(&before) != head(&after));
        }
        let [whole, parts] =
            ["whole", "parts"].map(|run| weights(&project.path(&format!("{run}/checkpoint.safetensors"))));
        assert!(whole.weights == parts.weights && whole.ema == parts.ema, "{by}");
        let [whole, parts] = [whole, parts].map(|file| file.training.unwrap());
        assert!(whole.adam_m == parts.adam_m && whole.adam_v == parts.adam_v);
        let noted = &whole.recipe["labelled"];
        assert_eq!(noted, &parts.recipe["labelled"]);
        let rows = noted["rows"].as_array().unwrap().len();
        assert_eq!(Some(rows as u64), noted["images"].as_u64());
        assert!((10..16).contains(&rows), "two fifths of about 36: {noted}");
        // Of four images of which two fifths have labels a buffer of four fills every two or three steps.
        let moved = heads.iter().filter(|moved| **moved).count();
        let want = if by == "batch" { 5..=5 } else { 1..=4 };
        assert!(want.contains(&moved), "{by}: the head moved in {moved} of 5 steps");
    }
}

#[test]
fn a_classifier_alone_sees_the_same_few_and_other_labels_are_refused() {
    let project = Project::new();
    few(&project, "buffer", "");
    project.train("alone", &["--steps", "3", "--classifier-only"]);
    project.train("joint", &["--steps", "3"]);
    let rows = |run: &str| {
        let file = weights(&project.path(&format!("{run}/checkpoint.safetensors")));
        file.training.unwrap().recipe["labelled"]["rows"].clone()
    };
    assert!(rows("alone") == rows("joint") && rows("joint").is_array());
    let (recipe, out) = (project.text("recipe.toml"), project.text("joint"));
    let other =
        ["train", &recipe, "--out", &out, "--steps", "4", "--resume", "--set", "train.labelled_share=0.5"];
    fails(&other, &["train.labelled_share was 0.4, is 0.5"]);
    fails(
        &["train", &recipe, "--out", &out, "--set", "train.labelled_share=2"],
        &["labelled_share", "at most 1"],
    );
}
