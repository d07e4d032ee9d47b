//! Trains a joint model on tensors of one's own: bright stripes, upright or lying, that the program makes as it goes.
//!
//! `cargo run --release --example train` writes a checkpoint that every other part of Duet reads.

use duet::Duet;
use duet::diffusion::DiffusionConfig;
use duet::gpu::{Device, DeviceOptions};
use duet::model::{JointModel, Labels, ModelConfig};
use duet::train::{Batch, ClassifierInput, TrainOptions, Trainer};
use std::sync::Arc;

const SIDE: usize = 8;
const BATCH: usize = 16;

/// Images \[N,C,H,W\] in −1..1 with a class each.
fn batch(step: usize) -> Batch {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for row in 0..BATCH {
        let (class, place) = ((row + step) % 2, (3 * row + step) % SIDE);
        labels.push(class as u32);
        for pixel in 0..SIDE * SIDE {
            let across = if class == 0 { pixel % SIDE } else { pixel / SIDE };
            images.push(if across == place { 1.0 } else { -1.0 });
        }
    }
    Batch { images, labels: Labels::Classes(labels) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pollster::block_on(train())
}

async fn train() -> Result<(), Box<dyn std::error::Error>> {
    let config = ModelConfig {
        image_size: SIDE,
        num_channels: 16,
        num_res_blocks: 1,
        channel_mult: vec![1, 2],
        attention_resolutions: vec![4],
        num_groups: 8,
        num_classes: 2,
        classifier_dropout: 0.0,
        class_names: vec!["upright".into(), "lying".into()],
        ..ModelConfig::default()
    };
    let options = TrainOptions {
        batch_size: BATCH,
        classifier_loss_scaling: 0.5,
        classifier_input: ClassifierInput::Both,
        ema_rate: 0.9,
        ..TrainOptions::default()
    };
    let device = Device::open(&DeviceOptions::default()).await?;
    let model = Arc::new(JointModel::new(&config)?);
    let mut trainer = Trainer::new(&device, model, &DiffusionConfig::default(), &options).await?;
    for step in 0..60 {
        trainer.train_step(&batch(step), 2e-3)?;
        if step % 20 == 19 {
            let metrics = trainer.metrics().await?;
            println!("step {}: loss {:.3}, noise error {:.3}", step + 1, metrics.loss, metrics.mse);
        }
    }
    let path = std::env::temp_dir().join("duet-train.safetensors");
    trainer.checkpoint().await?.save(&path)?;

    let mut duet = Duet::load(&path).await?;
    let Batch { images, labels } = batch(60);
    let answers = duet.classify(&images).await?;
    let Labels::Classes(labels) = labels else { return Ok(()) };
    let right =
        answers.iter().zip(&labels).filter(|(answer, label)| answer.class == **label as usize).count();
    println!("{right} of {BATCH} right; wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        super::main().unwrap();
    }
}
