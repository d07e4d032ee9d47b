//! Every pipeline in the languages of the devices that are not at hand, as wgpu has it translated: SPIR-V for Vulkan, MSL for Metal, HLSL
//! for DX12 in each kind of shader model that wgpu asks for, GLSL. Where there is a compiler for one of them it reads what comes out.

use crate::programs::{programs, tiled};
use duet::autodiff::Precision;
use duet::checkpoint::Checkpoint;
use duet::explain::{LocalStep, inversion_plan, local_step_plan};
use duet::families::{Choices, Family};
use duet::gpu::{Kernel, Launch};
use duet::infer::{classify_plan, predict_plan};
use duet::model::{JointModel, WeightSet};
use duet::sampling::{Guidance, StepSpec, step_plan};
use duet::train::{ClassifierInput, TrainOptions, TrainSpec, train_plan};
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Shader models of DX12: that of its older compiler, the first of the newer one, the first with f16, the newest that wgpu asks for.
const SHADER_MODELS: [hlsl::ShaderModel; 4] =
    [hlsl::ShaderModel::V5_1, hlsl::ShaderModel::V6_0, hlsl::ShaderModel::V6_2, hlsl::ShaderModel::V6_9];

/// Bytes of workgroup memory of which every Metal device has as many, and buffers that it can bind.
const METAL_WORKGROUP_BYTES: u32 = 32_768;
const METAL_BUFFERS: usize = 31;

/// A pipeline: a program whose constants have their values.
struct Pipeline {
    kernel: Kernel,
    module: Module,
    info: ModuleInfo,
}

impl Pipeline {
    fn new(kernel: Kernel) -> Pipeline {
        let at = kernel.to_string();
        let module = naga::front::wgsl::parse_str(&kernel.program()).unwrap();
        let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let matrices = uses_matrices(&kernel);
        capabilities.set(Capabilities::SUBGROUP, uses_subgroups(&kernel) || matrices);
        capabilities.set(Capabilities::SHADER_FLOAT16, !kernel.halves.is_empty() || matrices);
        capabilities.set(Capabilities::COOPERATIVE_MATRIX, matrices);
        let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module).unwrap();
        let constants = kernel.constants.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let entry = Some((ShaderStage::Compute, kernel.entry));
        let (module, info) =
            naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants)
                .unwrap_or_else(|e| panic!("{at}: {e}"));
        let (module, info) = (module.into_owned(), info.into_owned());
        Pipeline { kernel, module, info }
    }

    fn entry(&self) -> (ShaderStage, String) {
        (ShaderStage::Compute, self.kernel.entry.to_owned())
    }

    /// For Vulkan: reads past the end of a buffer are the driver's to answer, as wgpu has it where the driver is robust.
    fn spirv(&self) -> Result<Vec<u32>, String> {
        let options = spv::Options {
            lang_version: (1, 3),
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            ..spv::Options::default()
        };
        let (shader_stage, entry_point) = self.entry();
        let of = spv::PipelineOptions { shader_stage, entry_point };
        spv::write_vec(&self.module, &self.info, &options, Some(&of)).map_err(|e| e.to_string())
    }

    fn msl(&self) -> Result<String, String> {
        let restricted = BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            buffer: BoundsCheckPolicy::Restrict,
            image_load: BoundsCheckPolicy::Restrict,
            binding_array: BoundsCheckPolicy::Unchecked,
        };
        let options = msl::Options {
            lang_version: (2, 4),
            bounds_check_policies: restricted,
            zero_initialize_workgroup_memory: false,
            ..msl::Options::default()
        };
        let of = msl::PipelineOptions { entry_point: Some(self.entry()), ..msl::PipelineOptions::default() };
        msl::write_string(&self.module, &self.info, &options, &of)
            .map(|(text, _)| text)
            .map_err(|e| e.to_string())
    }

    /// The text and what its entry point is called there.
    fn hlsl(&self, shader_model: hlsl::ShaderModel) -> Result<(String, String), String> {
        let options = hlsl::Options {
            shader_model,
            zero_initialize_workgroup_memory: false,
            ..hlsl::Options::default()
        };
        let of = hlsl::PipelineOptions { entry_point: Some(self.entry()) };
        let mut text = String::new();
        let written = hlsl::Writer::new(&mut text, &options, &of)
            .write(&self.module, &self.info, None)
            .map_err(|e| e.to_string())?;
        let name = written.entry_point_names.into_iter().next().unwrap().map_err(|e| e.to_string())?;
        Ok((text, name))
    }

    fn glsl(&self) -> Result<String, String> {
        let (shader_stage, entry_point) = self.entry();
        let of = glsl::PipelineOptions { shader_stage, entry_point, multiview: None };
        let options = glsl::Options { zero_initialize_workgroup_memory: false, ..glsl::Options::default() };
        let mut text = String::new();
        let policies = BoundsCheckPolicies::default();
        glsl::Writer::new(&mut text, &self.module, &self.info, &options, &of, policies)
            .and_then(|mut writer| writer.write())
            .map_err(|e| e.to_string())?;
        Ok(text)
    }
}

fn uses_subgroups(kernel: &Kernel) -> bool {
    kernel.file.ends_with("_subgroup")
}

/// By Vulkan and Metal alone; its factors are f16.
fn uses_matrices(kernel: &Kernel) -> bool {
    kernel.file.ends_with("_cooperative")
}

/// What the shipped models run, trained and used, in all families.
fn shipped() -> Vec<Launch> {
    let public = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/demo/public");
    let mut launches = Vec::new();
    for file in
        ["model.safetensors", "models/mnist/model.safetensors", "models/blood-cells/model.safetensors"]
    {
        let checkpoint = Checkpoint::load(&public.join(file)).unwrap();
        let (config, diffusion) = (checkpoint.model, checkpoint.diffusion);
        let (model, set) = (JointModel::new(&config).unwrap(), WeightSet::Raw);
        let guidance = Guidance::Representation;
        let local = LocalStep { guidance, normalize: true, masked: true };
        let mut plans = vec![
            classify_plan(&model, 8, set).unwrap(),
            predict_plan(&model, 8, set).unwrap(),
            step_plan(&model, &StepSpec { guidance, ..StepSpec::new(8) }, set).unwrap(),
            step_plan(&model, &StepSpec::new(8), set).unwrap(),
            local_step_plan(&model, local, 8, [12, 10], set).unwrap(),
            inversion_plan(&model, 8, set).unwrap(),
        ];
        for precision in [Precision::F32, Precision::F16] {
            let options = TrainOptions { precision, ..TrainOptions::default() };
            let classifier_input = ClassifierInput::Both;
            let spec = TrainSpec { batch: 8, classifier_input, ..TrainSpec::of(&options) };
            plans.push(train_plan(&model, &diffusion, &spec).unwrap());
        }
        for plan in plans {
            for family in Family::ALL {
                launches.extend(plan.chosen(&Choices::all(family)).unwrap().program().launches.clone());
            }
        }
    }
    launches
}

/// All pipelines of the shipped models, and of plans that together use every kernel.
fn pipelines() -> &'static [Pipeline] {
    static ALL: OnceLock<Vec<Pipeline>> = OnceLock::new();
    ALL.get_or_init(translated)
}

fn translated() -> Vec<Pipeline> {
    let launches =
        programs().into_iter().flat_map(|program| program.launches).chain(tiled()).chain(shipped());
    let kernels: HashSet<Kernel> = launches.map(|launch| launch.kernel).collect();
    let mut kernels: Vec<Kernel> = kernels.into_iter().collect();
    kernels.sort_by_key(ToString::to_string);
    kernels.into_iter().map(Pipeline::new).collect()
}

/// Runs a compiler on a file of this text; what it says where it refuses it.
fn compile(program: &str, arguments: &[&str], path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).unwrap();
    let run = Command::new(program).args(arguments).arg(path).output();
    let run =
        run.unwrap_or_else(|e| panic!("{program} ({e}): install it with trainer/scripts/setup.sh shaders"));
    let said = [run.stdout, run.stderr].concat();
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// The pipelines, several at a time; `look` gives what is wrong with one.
fn each(pipelines: &[Pipeline], look: impl Fn(&Pipeline, &Path) -> Result<(), String> + Sync) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let (look, folder) = (&look, folder.path());
        let work = |thread: usize| {
            let path = folder.join(thread.to_string());
            let mine = pipelines.iter().skip(thread).step_by(threads);
            mine.filter_map(|one| look(one, &path).err().map(|e| format!("{}: {e}", one.kernel)))
                .collect::<Vec<_>>()
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {}: {}", wrong.len(), pipelines.len(), wrong.join("\n"));
}

/// What Metal would refuse, by name: it has no doubles and no 64-bit floats in any guise, gives a workgroup 32 KiB and a kernel 31
/// buffers (one of them holds the sizes of the others), and 256 invocations run whatever registers a kernel takes.
fn check_metal(one: &Pipeline, text: &str) -> Result<(), String> {
    let words: HashSet<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for refused in ["double", "double2", "double3", "double4", "long4", "goto", "printf", "atomic_float"] {
        if words.contains(refused) {
            return Err(format!("MSL has no {refused}"));
        }
    }
    let number = one.module.entry_points.iter().position(|entry| entry.name == one.kernel.entry);
    let number = number.ok_or("no such entry point")?;
    let used = one.info.get_entry_point(number);
    let globals = one.module.global_variables.iter().filter(|(handle, _)| !used[*handle].is_empty());
    let (mut memory, mut buffers) = (0, 1);
    for (_, variable) in globals {
        match variable.space {
            AddressSpace::WorkGroup => {
                memory += one.module.types[variable.ty].inner.size(one.module.to_ctx())
            }
            _ => buffers += 1,
        }
    }
    let invocations: u32 = one.module.entry_points[number].workgroup_size.iter().product();
    if memory > METAL_WORKGROUP_BYTES || buffers > METAL_BUFFERS || invocations > 256 {
        return Err(format!(
            "{memory} bytes of workgroup memory, {buffers} buffers, {invocations} invocations"
        ));
    }
    Ok(())
}

/// Whether a shader model has what a pipeline needs: wgpu offers subgroups from 6.0 and f16 from 6.2 on, and else the pipeline is never
/// asked for.
fn has(model: hlsl::ShaderModel, one: &Pipeline) -> bool {
    let subgroups = !uses_subgroups(&one.kernel) || model >= hlsl::ShaderModel::V6_0;
    !uses_matrices(&one.kernel)
        && subgroups
        && (one.kernel.halves.is_empty() || model >= hlsl::ShaderModel::V6_2)
}

/// wgpu offers neither f16 nor these subgroups and their matrices by OpenGL.
fn by_opengl(kernel: &Kernel) -> bool {
    !uses_subgroups(kernel) && !uses_matrices(kernel) && kernel.halves.is_empty()
}

#[test]
fn every_pipeline_is_written_for_every_backend() {
    let pipelines = pipelines();
    assert!(pipelines.len() > 150, "{}", pipelines.len());
    assert!(pipelines.iter().any(|one| uses_subgroups(&one.kernel)));
    for entry in ["forward", "grad_input", "grad_weight", "cooperative"] {
        let of = |one: &Pipeline| uses_matrices(&one.kernel) && one.kernel.entry == entry;
        assert!(pipelines.iter().any(of), "{entry} by matrices");
    }
    assert!(pipelines.iter().any(|one| !one.kernel.halves.is_empty()), "storage of f16 too");
    each(pipelines, |one, _| {
        one.spirv().map_err(|e| format!("SPIR-V: {e}"))?;
        let text = one.msl().map_err(|e| format!("MSL: {e}"))?;
        check_metal(one, &text)?;
        for model in SHADER_MODELS.into_iter().filter(|model| has(*model, one)) {
            one.hlsl(model).map_err(|e| format!("HLSL {model:?}: {e}"))?;
        }
        if by_opengl(&one.kernel) {
            one.glsl().map_err(|e| format!("GLSL: {e}"))?;
        }
        Ok(())
    });
}

#[test]
fn compilers_read_what_is_written() {
    each(pipelines(), |one, path| {
        let words: Vec<u8> = one.spirv()?.iter().flat_map(|word| word.to_le_bytes()).collect();
        let validated = compile("spirv-val", &["--target-env", "vulkan1.1"], path, &words);
        // Validators from before the middle of 2023 do not know cooperative matrices.
        let unknown =
            |e: &String| uses_matrices(&one.kernel) && e.contains("Invalid capability operand: 6022");
        validated.or_else(|e| if unknown(&e) { Ok(()) } else { Err(format!("SPIR-V: {e}")) })?;
        let out = path.with_extension("spv");
        let out = out.to_string_lossy();
        let glslang = ["-S", "comp", "--target-env", "vulkan1.1", "-o", &out];
        // An older shader model has the same text but for what it lacks. f16 is loaded from buffers by templates, which this compiler does
        // not know.
        if one.kernel.halves.is_empty() && !uses_matrices(&one.kernel) {
            let (text, name) = one.hlsl(hlsl::ShaderModel::V6_0)?;
            let of_hlsl = [&glslang[..], &["-D", "-e", &name]].concat();
            compile("glslangValidator", &of_hlsl, path, text.as_bytes()).map_err(|e| format!("HLSL: {e}"))?;
        }
        if by_opengl(&one.kernel) {
            let of_glsl = ["-S", "comp"];
            compile("glslangValidator", &of_glsl, path, one.glsl()?.as_bytes())
                .map_err(|e| format!("GLSL: {e}"))?;
        }
        Ok(())
    });
}
