//! A program that has a wgpu device already shares it with a model: no second device, and no copy between two.
//!
//! `cargo run --release --example adopt`

use duet::gpu::Device;
use duet::{Duet, LoadOptions, wgpu};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pollster::block_on(adopt())
}

async fn adopt() -> Result<(), Box<dyn std::error::Error>> {
    // What the program has for itself.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    let (device, queue) = adapter.request_device(&wgpu::DeviceDescriptor::default()).await?;

    let adopted = Some(Device::adopt(device.clone(), queue.clone()));
    let options = LoadOptions { adopted, ..LoadOptions::default() };
    let mut duet = Duet::load_with("web/demo/public/model.safetensors", &options).await?;
    let answer = duet.classify(&vec![-1.0; duet.image_len()]).await?.remove(0);
    println!("on {}: {}", adapter.get_info().name, answer.name);

    // The device goes on to be the program's when the model is gone.
    drop(duet);
    device.poll(wgpu::PollType::wait_indefinitely())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        super::main().unwrap();
    }
}
