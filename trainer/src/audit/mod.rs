//! Does a classifier go by shortcuts: by a mark at one place that images of one class happen to have? Counterfactuals of many
//! images towards each class are made with little strength, and what they have in common is looked at: the thing in a picture
//! moves, and with it what changes; a shortcut stays where it is. What stands out is cut out and pasted into other images.
//!
//! `evidence` sums changes, `flag` finds places, `patch` pastes, `run` does all of it, `picture` draws the maps.

pub mod evidence;
pub mod flag;
pub mod patch;
pub mod picture;
pub mod run;
