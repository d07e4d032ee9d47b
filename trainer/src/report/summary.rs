//! What became of all images of a tree, as numbers.

use super::records::Record;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A mean; `null` of nothing.
fn mean(values: impl Iterator<Item = f64>) -> Value {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { Value::Null } else { json!(sum / count as f64) }
}

/// Share of `records` that are so.
fn share(records: &[&Record], is: impl Fn(&Record) -> bool) -> Value {
    mean(records.iter().map(|record| f64::from(u8::from(is(record)))))
}

fn agrees(record: &Record) -> bool {
    record.row.judge.as_ref().is_some_and(|judge| judge.agrees)
}

/// Figures of records, means over images.
fn figures(records: &[&Record], judged: bool) -> Map<String, Value> {
    let of = |value: fn(&Record) -> f64| mean(records.iter().map(|record| value(record)));
    let mut figures = Map::new();
    let mut add = |name: &str, value: Value| {
        figures.insert(name.to_owned(), value);
    };
    add("images", json!(records.len()));
    add("reached", share(records, |record| record.row.reached));
    add("reached_first_try", share(records, |record| record.row.reached && record.row.rung == 0));
    add("mean_change", of(|record| record.row.mean_change));
    add("changed_share", of(|record| record.row.changed_share));
    add("bkl", of(|record| 1.0 - f64::from(record.row.aim().probability(&record.row.after))));
    add("others_moved", of(|record| record.row.others_moved as f64));
    if judged {
        let probability =
            |record: &Record| record.row.judge.as_ref().map_or(0.0, |judge| f64::from(judge.probability));
        add("judge_agrees", share(records, agrees));
        add("judge_probability", mean(records.iter().map(|record| probability(record))));
    }
    figures
}

/// The summary of `all` images of a tree, of `wanted` in all; `names` gives a class its name.
pub fn summary<'a>(
    all: impl Iterator<Item = &'a Record>,
    wanted: usize,
    settings: &Map<String, Value>,
    judge: Option<Value>,
    name: impl Fn(usize) -> String,
) -> Value {
    let all: Vec<&Record> = all.collect();
    let (already, explained): (Vec<&Record>, Vec<&Record>) =
        all.iter().partition(|record| record.row.already);
    let (correct, incorrect): (Vec<&Record>, Vec<&Record>) =
        explained.iter().partition(|record| record.correct);
    let judged = judge.is_some();
    let mut pairs: BTreeMap<(usize, usize, bool), Vec<&Record>> = BTreeMap::new();
    for record in &explained {
        let row = &record.row;
        pairs.entry((row.decision_before, row.target, row.target_present)).or_default().push(*record);
    }
    let pair = |((from, to, present), records): (&(usize, usize, bool), &Vec<&Record>)| {
        let mut figures = figures(records, judged);
        figures.insert("from".into(), json!(name(*from)));
        figures.insert("to".into(), json!(name(*to)));
        figures.insert("present".into(), json!(present));
        figures
    };
    let pairs: Vec<Map<String, Value>> = pairs.iter().map(pair).collect();
    json!({
        "settings": settings,
        "complete": all.len() == wanted,
        "images_wanted": wanted,
        "already": already.len(),
        "decided_correctly": correct.len(),
        "all": figures(&explained, judged),
        "correct": figures(&correct, judged),
        "incorrect": figures(&incorrect, judged),
        "pairs": pairs,
        "judge": judge,
        "seconds_per_image": mean(explained.iter().map(|record| record.row.seconds)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::row::{Judged, Row};
    use crate::report::page::tests::row;
    use duet::model::Head;

    #[test]
    fn shares_are_of_those_that_had_to_change() {
        let judge = |agrees| Some(Judged { decision: 2, probability: 0.5, agrees });
        let of = |number, truth, row| Record::of(number, Head::Multiclass, truth, row);
        let all = [
            of(0, 0, Row { judge: judge(true), ..row(2, [0, 2]) }),
            of(1, 0, Row { judge: judge(false), rung: 0, ..row(2, [0, 2]) }),
            of(2, 1, Row { judge: judge(false), mean_change: 0.2, ..row(3, [0, 0]) }),
            of(3, 0, row(0, [0, 0])),
        ];
        let settings = Map::from_iter([("model".to_owned(), json!("m"))]);
        let name = |class: usize| ["a", "b", "c", "d"][class].to_owned();
        let made = summary(all.iter(), 5, &settings, Some(json!({"file": "j"})), name);
        assert_eq!(made["complete"], false);
        assert_eq!([&made["already"], &made["decided_correctly"]], [1, 2]);
        let close = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() < 1e-6;
        assert!(
            close(&made["all"]["reached"], 2.0 / 3.0) && close(&made["all"]["reached_first_try"], 1.0 / 3.0)
        );
        assert!(
            close(&made["all"]["mean_change"], 0.1) && close(&made["all"]["bkl"], (0.35 + 0.35 + 0.96) / 3.0)
        );
        assert!(close(&made["correct"]["reached"], 1.0) && close(&made["correct"]["judge_agrees"], 0.5));
        assert!(close(&made["incorrect"]["reached"], 0.0) && made["incorrect"]["images"] == 1);
        assert_eq!(made["pairs"].as_array().unwrap().len(), 2);
        assert_eq!([&made["pairs"][0]["from"], &made["pairs"][0]["to"]], ["a", "c"]);
        assert_eq!(made["pairs"][0]["images"], 2);
        let none = summary([].iter(), 0, &settings, None, name);
        assert!(none["all"]["reached"].is_null() && none["complete"] == true, "{none}");
        assert!(none["all"].get("judge_agrees").is_none());
    }
}
