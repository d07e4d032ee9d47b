//! `duet data list`: the published data sets there are.

use crate::cli::Cli;
use crate::fetch::{SETS, Source};
use crate::io::output::{bytes, say};
use serde_json::json;

/// Runs the command.
pub fn run(arguments: &Cli) {
    for set in &SETS {
        let (size, by_hand) = (set.bytes(), matches!(set.source, Source::ByHand(_)));
        if arguments.json {
            say!(
                "{}",
                json!({
                    "name": set.name, "title": set.title, "bytes": size, "by_hand": by_hand, "page": set.page,
                    "licence": set.licence, "citation": set.citation,
                })
            );
            continue;
        }
        let size = match (by_hand, size) {
            (true, _) => "by hand".to_owned(),
            (false, Some(size)) => bytes(size),
            (false, None) => "size not published".to_owned(),
        };
        say!(
            "{:<14} {} ({size})\n  from: {}\n  licence: {}\n  cite: {}",
            set.name,
            set.title,
            set.page,
            set.licence,
            set.citation
        );
    }
}
