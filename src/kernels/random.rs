//! Noise and dropout masks by Philox counters: `wgsl/random.wgsl`.
