//! What a run may begin with: data that fit the model, and checkpoints.

use super::changes::{Change, changes, network_changes};
use super::evaluate::Part;
use super::run::SECONDS;
use super::warn;
use crate::data::Dataset;
use crate::recipe::{Recipe, TimeSpan, TrainRecipe};
use duet::checkpoint::{Checkpoint, Figures, TrainingState};
use duet::model::{Head, Labels, ModelConfig, class_list};
use duet::{Error, Result};
use std::path::Path;

/// Whether the model has a head for the data's labels, and for as many. One class per image is learnt by a multi-label head too,
/// see [`Dataset::for_model`].
///
/// # Errors
/// [`Error::Config`] saying what to change.
pub fn labels_fit(data: &Dataset, model: &ModelConfig) -> Result<()> {
    let (names, classes) = (data.class_names.len(), model.num_classes);
    let what = match (&data.labels, model.head) {
        (Labels::MultiLabel(_), Head::Multiclass) => {
            let detail = "the data have any number of labels per image: use \"multi_label\"";
            return Err(Error::config("model.head", detail));
        }
        (Labels::MultiLabel(_), _) => "labels",
        (Labels::Classes(_), _) => "classes",
    };
    // Classes without images are meant by who names them all.
    let named = model.class_names.len() == classes && what == "classes";
    if names > classes || (names < classes && !named) {
        let detail = format!(
            "the data have {names} {what} ({}), the model {classes}: set num_classes = {names}",
            class_list(&data.class_names)
        );
        return Err(Error::config("model.num_classes", detail));
    }
    Ok(())
}

/// The names of the classes of a model that is to learn `data`: the data's own, but in the order of the model it begins with
/// where that has just these, so that its head goes on to mean what it meant.
pub fn class_names(init: Option<&Checkpoint>, data: &Dataset) -> Vec<String> {
    if let Some(init) = init {
        let before = &init.model;
        let known = before.match_classes(&data.class_names);
        if before.class_names.len() == data.class_names.len() && known.is_ok() {
            return before.class_names.clone();
        }
    }
    data.class_names.clone()
}

/// The checkpoint of `file` to go on from, made ready for `recipe`. What would change the steps to come is refused, and only told
/// where it is `meant`.
///
/// # Errors
/// [`Error::Checkpoint`] naming each setting that differs, with what it was and what it is.
pub fn resumable(
    mut checkpoint: Checkpoint,
    file: &Path,
    recipe: &Recipe,
    data: &Dataset,
    meant: bool,
    json: bool,
) -> Result<Checkpoint> {
    let refuse = |detail: String| Err(Error::Checkpoint { path: file.into(), detail });
    let Some(state) = &checkpoint.training else {
        return refuse("holds no training state: it was exported for inference".into());
    };
    let list = changes(&checkpoint, state, recipe, data)?;
    if list.iter().any(|change| !change.possible) {
        let other = named(list.iter().filter(|change| !change.possible));
        return refuse(format!("is of another network: {other}; begin anew, with another --out"));
    }
    if !list.is_empty() && !meant {
        let detail = format!("was trained otherwise: {}; --override goes on all the same", named(&list));
        return refuse(detail);
    }
    if !list.is_empty() {
        warn(json, &format!("going on otherwise than before: {}", named(&list)));
    }
    if let Some(detail) = other_length(state, &recipe.train) {
        warn(json, &detail);
    }
    checkpoint.model.clone_from(&recipe.model);
    checkpoint.diffusion.clone_from(&recipe.diffusion);
    Ok(checkpoint)
}

/// That the run was to have another length, where learning rates depend on it.
fn other_length(state: &TrainingState, train: &TrainRecipe) -> Option<String> {
    let before = state.recipe.get("train")?;
    let steps = before.get("steps")?.as_u64()?;
    let time = |span: Option<TimeSpan>| span.map_or("not set".to_owned(), |span| span.to_string());
    let time_before = time(before.get("max_time").and_then(|span| span.as_str()?.parse().ok()));
    let mut other = Vec::new();
    if steps != train.steps {
        other.push(format!("train.steps was {steps}, is {}", train.steps));
    }
    if time_before != time(train.max_time) {
        other.push(format!("train.max_time was {time_before}, is {}", time(train.max_time)));
    }
    let schedule = serde_json::to_value(train.lr_schedule).ok()?;
    let told = train.lr_schedule.has_end() && !other.is_empty();
    let schedule = schedule.as_str().unwrap_or_default();
    told.then(|| {
        format!("{}: from now on the rates of a {schedule} schedule of that length", other.join("; "))
    })
}

/// Whether a run that evaluated at `step` has had no better figures than `best` for as many evaluations as it waits.
pub fn no_better(train: &TrainRecipe, best: &Figures, step: u64) -> bool {
    let (Some(patience), true) = (train.early_stop, train.eval_every > 0) else { return false };
    (step / train.eval_every).saturating_sub(best.step / train.eval_every) >= patience
}

/// Why a run that stands at `state` is over though it has steps left.
pub fn ended(state: &TrainingState, train: &TrainRecipe, part: &Part<'_>) -> Option<String> {
    let used = state.last.as_ref().and_then(|last| last.values.get(SECONDS)).copied();
    if let (Some(span), Some(used)) = (train.max_time, used)
        && used >= span.duration().as_secs_f64()
    {
        return Some(format!("its {span} are over; a longer --max-time goes on"));
    }
    let figure = part.figure(train.keep_best?.name());
    let best = state.best.as_ref().filter(|best| best.values.contains_key(&figure))?;
    let told = || format!("{figure} got no better since step {}; a larger early_stop goes on", best.step);
    no_better(train, best, state.step).then(told)
}

/// The weights of another run to begin with, without its optimizer and its place in the data.
///
/// # Errors
/// [`Error::Checkpoint`] where it is of another configuration, naming what differs.
pub fn initial(mut checkpoint: Checkpoint, file: &Path, recipe: &Recipe) -> Result<Checkpoint> {
    let list = network_changes(&checkpoint, recipe)?;
    // Names and dropout do not change what the network computes.
    let other = named(list.iter().filter(|change| !(change.possible && change.field.starts_with("model."))));
    if !other.is_empty() {
        let detail = format!("is of another network than the recipe's: {other}");
        return Err(Error::Checkpoint { path: file.into(), detail });
    }
    same_order(&checkpoint.model, &recipe.model)
        .map_err(|e| Error::Checkpoint { path: file.into(), detail: e.to_string() })?;
    checkpoint.model.clone_from(&recipe.model);
    Ok(checkpoint.into_inference())
}

fn named<'a>(changes: impl IntoIterator<Item = &'a Change>) -> String {
    let texts: Vec<String> = changes.into_iter().map(Change::to_string).collect();
    texts.join("; ")
}

/// Refuses the names of one model in another order: its head would begin with one class taken for another.
fn same_order(before: &ModelConfig, now: &ModelConfig) -> Result<()> {
    if before.class_names.is_empty() || now.class_names.len() != before.num_classes {
        return Ok(());
    }
    match before.match_classes(&now.class_names) {
        Ok(order) if !order.iter().copied().eq(0..before.num_classes) => {
            let detail =
                "has the recipe's class_names in another order: give them in the model's, or leave them out";
            Err(Error::config("class_names", format!("{detail}; the model's are {}", before.class_list())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(labels: Labels) -> Dataset {
        Dataset {
            images: vec![0; 3].into(),
            labels,
            channels: 1,
            size: 1,
            class_names: vec!["a".into(), "b".into()],
        }
    }

    #[test]
    fn a_wrong_number_of_classes_is_explained() {
        let single = data(Labels::Classes(vec![1, 0, 1]));
        let several = data(Labels::MultiLabel(vec![1.0; 6]));
        let model = |head, num_classes| ModelConfig { head, num_classes, ..ModelConfig::default() };
        for (head, set) in
            [(Head::Multiclass, &single), (Head::MultiLabel, &single), (Head::MultiLabel, &several)]
        {
            labels_fit(set, &model(head, 2)).unwrap();
            let what = if matches!(set.labels, Labels::Classes(_)) { "classes" } else { "labels" };
            for classes in [1, 5] {
                let error = labels_fit(set, &model(head, classes)).unwrap_err().to_string();
                assert!(
                    error.contains(&format!(
                        "2 {what} (\"a\", \"b\"), the model {classes}: set num_classes = 2"
                    )),
                    "{error}"
                );
            }
        }
        let error = labels_fit(&several, &model(Head::Multiclass, 2)).unwrap_err().to_string();
        assert!(error.contains("multi_label"), "{error}");
        let class_names: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let named = ModelConfig { class_names, ..model(Head::MultiLabel, 3) };
        labels_fit(&single, &named).unwrap();
    }

    #[test]
    fn a_model_to_begin_with_keeps_the_order_of_its_names() {
        let model = |names: &[&str]| ModelConfig {
            num_classes: names.len(),
            class_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..ModelConfig::default()
        };
        let before = model(&["dog", "cat"]);
        for names in
            [vec!["dog", "cat"], vec!["Dog", "CAT"], vec!["hen", "pig"], vec!["cat", "hen"], vec!["0", "1"]]
        {
            same_order(&before, &model(&names)).unwrap();
        }
        let error = same_order(&before, &model(&["cat", "dog"])).unwrap_err().to_string();
        assert!(error.contains("another order") && error.contains("\"dog\", \"cat\""), "{error}");
        same_order(&model(&[]), &before).unwrap();
    }
    #[test]
    fn another_length_is_told_where_rates_depend_on_it() {
        let recipe = |more: &str| {
            let text = format!(
                "[data]\nkind = \"mnist\"\npath = \"x\"\n[model]\nnum_channels = 32\n[train]\n{more}"
            );
            Recipe::parse(&text, Path::new("recipe.toml")).unwrap()
        };
        let cosine = "lr_schedule = \"cosine\"\nsteps = 10\n";
        let state = |recipe: &Recipe, seconds: f64, best: Option<u64>| {
            let values = [(SECONDS.to_owned(), seconds), ("test_loss".to_owned(), 0.5)];
            let figures = |step| Figures { step, values: values.clone().into() };
            TrainingState {
                step: 40,
                seed: 0,
                adam_m: duet::tensor::Tensors::new(),
                adam_v: duet::tensor::Tensors::new(),
                recipe: serde_json::to_value(recipe).unwrap(),
                data_fingerprint: String::new(),
                best: best.map(figures),
                last: Some(figures(40)),
                timesteps: duet::tensor::Tensors::new(),
                loss_scale: None,
            }
        };
        let told = |was: &str, is: &str| other_length(&state(&recipe(was), 5.0, None), &recipe(is).train);
        assert_eq!(told(cosine, cosine), None);
        let want =
            "train.max_time was 2h, is not set: from now on the rates of a cosine schedule of that length";
        assert_eq!(told(&format!("{cosine}max_time = \"120m\"\n"), cosine).unwrap(), want);
        assert_eq!(told("steps = 10\nmax_time = \"1h\"\n", "steps = 20\n"), None, "constant rates");
        let more = told(cosine, "lr_schedule = \"linear\"\nsteps = 20\n").unwrap();
        assert!(more.starts_with("train.steps was 10, is 20: ") && more.contains("linear"), "{more}");

        let data = data(Labels::Classes(vec![1]));
        let part = Part { name: "test", data: &data, count: 1 };
        let over = |more: &str, seconds: f64, best: Option<u64>| {
            let recipe = recipe(more);
            ended(&state(&recipe, seconds, best), &recipe.train, &part)
        };
        assert_eq!(over("max_time = \"1m\"\n", 59.9, None), None);
        assert!(over("max_time = \"1m\"\n", 60.0, None).unwrap().contains("1m are over"));
        let patient = "eval_every = 10\nkeep_best = \"loss\"\nearly_stop = 2\n";
        assert_eq!(over(patient, 0.0, Some(30)), None);
        assert!(over(patient, 0.0, Some(20)).unwrap().contains("test_loss got no better since step 20"));
        assert_eq!(over("eval_every = 10\nkeep_best = \"accuracy\"\nearly_stop = 2\n", 0.0, Some(20)), None);
        assert_eq!(over(patient, 0.0, None), None);
    }
}
