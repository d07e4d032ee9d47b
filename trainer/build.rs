//! Looks for the page that the program is to hold, whenever it was built anew.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A path that is missing counts as changed every time: until the page is there, its sources say when it may be.
    let built = "../web/demo/dist";
    let watched = if Path::new(built).exists() { built } else { "../web/demo" };
    println!("cargo:rerun-if-changed={watched}");
}
