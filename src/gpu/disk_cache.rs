//! Compiled pipelines kept on disk between native runs.

use std::path::{Path, PathBuf};

/// A driver's pipeline cache with the file it is kept in.
pub(super) struct DiskCache {
    pub cache: wgpu::PipelineCache,
    file: PathBuf,
}

impl DiskCache {
    /// The cache of this adapter and driver in `folder`; `None` where the driver offers none.
    pub fn open(device: &wgpu::Device, adapter: &wgpu::AdapterInfo, folder: &Path) -> Option<DiskCache> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let file = folder.join(wgpu::util::pipeline_cache_key(adapter)?);
        let data = std::fs::read(&file).ok();
        // SAFETY: the file was written by `save` from `get_data` for this very adapter and driver (its name says so);
        // wgpu checks its header, and `fallback` starts empty where the check fails.
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("duet"),
                data: data.as_deref(),
                fallback: true,
            })
        };
        Some(DiskCache { cache, file })
    }

    /// Writes the cache; a failure costs only the next run's start-up time, so it is not reported.
    pub fn save(&self) {
        if let (Some(data), Some(folder)) = (self.cache.get_data(), self.file.parent()) {
            let partial = self.file.with_extension(format!("partial-{}", std::process::id()));
            let written = std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&partial, data))
                .and_then(|()| std::fs::rename(&partial, &self.file));
            if written.is_err() {
                let _ = std::fs::remove_file(&partial);
            }
        }
    }
}
