//! `duet eval`: accuracy on the test set, and the noise error by quarter of the chain.

use crate::cli::{Cli, Eval};
use crate::eval::{accuracy::accuracy, counterfactuals::flips, noise_error::noise_error};
use crate::io::session::Session;
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A bad checkpoint or data; device errors.
pub fn run(arguments: &Cli, options: &Eval) -> Result<()> {
    if options.batch == 0 {
        return Err(Error::config("batch", "must be at least 1"));
    }
    let session = Session::open(arguments, &options.model)?;
    let config = session.config();
    let split = session.data(&options.data)?;
    let test = &split.test;
    let count = if options.images == 0 { test.len() } else { options.images.min(test.len()) };
    let accuracy = accuracy(&session.weights, session.set, test, count, options.batch, arguments.json)?;
    let quarters = noise_error(&session, options, test)?;
    let flips = flips(&session, options, test)?;
    session.close();
    if arguments.json {
        let row = serde_json::json!({
            "images": count, "accuracy": accuracy.share, "per_class": accuracy.per_class,
            "mse_by_quarter": quarters, "mse_images": options.loss_images.min(test.len()),
            "counterfactuals": flips,
        });
        println!("{row}");
        return Ok(());
    }
    println!("accuracy {:.2} % of {count} test images", 100.0 * accuracy.share);
    for (class, share) in accuracy.per_class.iter().enumerate() {
        println!("  {:<12} {:.1} %", config.class_name(class), 100.0 * share);
    }
    if let Some(quarters) = quarters {
        println!("noise error (MSE of eps) by quarter of the chain, from image to noise:");
        for (quarter, value) in quarters.iter().enumerate() {
            println!("  {}/4  {value:.5}", quarter + 1);
        }
    }
    if let Some(flips) = flips {
        println!(
            "{} counterfactuals (noise {}, alpha {}, steps {}): {:.1} % change the decision, {:.1} % to the target",
            flips.images,
            options.way.noise,
            options.way.alpha,
            options.steps,
            100.0 * flips.changed,
            100.0 * flips.reached
        );
        println!("  mean change of a pixel {:.1} % of the range", 100.0 * flips.mean_change);
    }
    Ok(())
}
