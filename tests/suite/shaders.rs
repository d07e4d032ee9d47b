//! Every shader is a valid WGSL program as it stands, and launches bind what the shaders declare.

use crate::programs::{programs, tiled};
use duet::gpu::Launch;
use std::collections::BTreeMap;
use std::path::Path;

/// How the names of files end that need subgroups, and matrices that subgroups multiply.
const SUBGROUP: &str = "_subgroup";
const COOPERATIVE: &str = "_cooperative";

/// What files of matrices need.
const MATRICES: naga::valid::Capabilities = naga::valid::Capabilities::COOPERATIVE_MATRIX
    .union(naga::valid::Capabilities::SHADER_FLOAT16)
    .union(naga::valid::Capabilities::SUBGROUP);

struct Shader {
    name: String,
    source: String,
    module: naga::Module,
    info: naga::valid::ModuleInfo,
}

fn shaders() -> Vec<Shader> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("wgsl");
    let mut list = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.extension().unwrap(), "wgsl", "{} is no shader", path.display());
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&path).unwrap();
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&source, &name)));
        // What WebGPU offers without asking for features, and subgroups and their matrices in the files made for them.
        let flags = naga::valid::ValidationFlags::all();
        let mut capabilities = naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        capabilities.set(naga::valid::Capabilities::SUBGROUP, name.ends_with(SUBGROUP));
        if name.ends_with(COOPERATIVE) {
            capabilities |= MATRICES;
        }
        let info = naga::valid::Validator::new(flags, capabilities)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&source, &name)));
        list.push(Shader { name, source, module, info });
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// Texts of the files in a folder and the folders in it.
fn sources(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![std::fs::read_to_string(path).unwrap()],
        })
        .collect()
}

#[test]
fn every_file_is_valid_and_explains_itself() {
    let list = shaders();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let hosts = ["src/ops", "src/graph"].map(|folder| sources(&root.join(folder))).concat();
    assert!(list.len() >= 18, "only {} shaders", list.len());
    for shader in &list {
        let Shader { name, source, module, .. } = shader;
        assert!(source.starts_with("//"), "{name}: the first line says what it computes");
        assert!(source.lines().count() <= 500, "{name} is too long");
        assert!(!module.entry_points.is_empty(), "{name} has no entry point");
        for forbidden in ["enable ", "requires ", "subgroup", "atomic<"] {
            let code = |l: &&str| {
                let passed_on = name.ends_with(SUBGROUP)
                    && (l.contains("subgroupBroadcast(") || l.contains("@builtin(subgroup_invocation_id)"));
                // Which subgroup it is, but no operation of one.
                let operation = |rest: &str| rest.starts_with(|c: char| c.is_ascii_uppercase());
                let numbers = l.contains("subgroup") && !l.split("subgroup").skip(1).any(operation);
                let enabled = ["enable f16;", "enable wgpu_cooperative_matrix;"].contains(l);
                let matrices = name.ends_with(COOPERATIVE) && (numbers || enabled);
                !l.trim_start().starts_with("//") && !passed_on && !matrices
            };
            let found = source.lines().filter(code).find(|l| l.contains(forbidden));
            assert!(found.is_none(), "{name}: {found:?} is not accepted everywhere");
        }
        // Within a loop Chromium's compiler zeroes such a variable once, and not at every turn as it must.
        let zeroed = |l: &&str| {
            let nested = l.starts_with("        ");
            nested && l.trim_start().starts_with("var ") && l.contains(';') && !l.contains('=')
        };
        let found = source.lines().find(zeroed);
        assert!(found.is_none(), "{name}: {found:?} needs an initial value");
        let marks = [format!("shader!(\"{name}\")"), format!("/wgsl/{name}.wgsl")];
        let hosted = hosts.iter().any(|text| marks.iter().any(|mark| text.contains(mark)));
        assert!(hosted, "no host file has {marks:?}");
    }
}

#[test]
fn workgroup_sizes_are_named_and_bindings_few() {
    for Shader { name, source, module, info, .. } in shaders() {
        for line in source.lines().filter(|l| l.contains("@workgroup_size(")) {
            let inside = line.split("@workgroup_size(").nth(1).unwrap();
            assert!(!inside.starts_with(|c: char| c.is_ascii_digit()), "{name}: {line} has a literal");
        }
        for (number, entry) in module.entry_points.iter().enumerate() {
            let function = info.get_entry_point(number);
            let used = module.global_variables.iter().filter(|(handle, _)| !function[*handle].is_empty());
            let mut bindings = BTreeMap::new();
            for (_, variable) in used {
                let Some(binding) = &variable.binding else { continue };
                assert_eq!(binding.group, 0, "{name}.{}", entry.name);
                let twice = bindings.insert(binding.binding, variable.space);
                assert!(twice.is_none(), "{name}.{} binds {} twice", entry.name, binding.binding);
            }
            let storage = bindings.values().filter(|s| matches!(s, naga::AddressSpace::Storage { .. }));
            assert!(storage.count() <= 8, "{name}.{} binds too much", entry.name);
            let numbers: Vec<u32> = bindings.keys().copied().collect();
            let expected: Vec<u32> = (0..numbers.len() as u32).collect();
            assert_eq!(numbers, expected, "{name}.{}: bindings must be used and dense", entry.name);
        }
    }
}

/// Reads, writes and the uniform of a launch against what the shader's entry point declares.
fn check_launch(shaders: &[Shader], launch: &Launch) {
    let at = launch.kernel.to_string();
    let shader = shaders.iter().find(|s| s.name == launch.kernel.file);
    let shader = shader.unwrap_or_else(|| panic!("{at}: no such file"));
    let number = shader.module.entry_points.iter().position(|e| e.name == launch.kernel.entry);
    let function = shader.info.get_entry_point(number.unwrap_or_else(|| panic!("{at}: no such entry point")));
    let mut declared = BTreeMap::new();
    for (handle, variable) in shader.module.global_variables.iter() {
        if let (Some(binding), false) = (&variable.binding, function[handle].is_empty()) {
            declared.insert(binding.binding, variable);
        }
    }
    let uniform = usize::from(!launch.uniform.is_empty());
    assert_eq!(declared.len(), launch.reads.len() + launch.writes.len() + uniform, "{at}: bindings");
    for (binding, variable) in declared {
        let binding = binding as usize;
        match variable.space {
            naga::AddressSpace::Storage { access } => {
                let writes = access.contains(naga::StorageAccess::STORE);
                let expected = binding >= launch.reads.len();
                assert!(binding < launch.reads.len() + launch.writes.len(), "{at}: binding {binding}");
                assert_eq!(writes, expected, "{at}: access of binding {binding}");
            }
            naga::AddressSpace::Uniform => {
                assert_eq!(binding, launch.reads.len() + launch.writes.len(), "{at}: the uniform comes last");
                let naga::TypeInner::Struct { span, .. } = shader.module.types[variable.ty].inner else {
                    panic!("{at}: the uniform is no struct");
                };
                assert_eq!(launch.uniform.len(), span as usize, "{at}: size of the uniform");
            }
            other => panic!("{at}: binding {binding} is {other:?}"),
        }
    }
    let limit = 65_535;
    assert!(launch.workgroups.iter().all(|w| *w >= 1 && *w <= limit), "{at}: {:?}", launch.workgroups);
}

#[test]
fn launches_fit_their_shaders() {
    let list = shaders();
    let mut used = std::collections::BTreeSet::new();
    for launch in programs().iter().flat_map(|p| &p.launches).chain(&tiled()) {
        check_launch(&list, launch);
        used.insert(launch.kernel.file);
    }
    for shader in list.iter().filter(|s| !s.name.ends_with("_naive")) {
        assert!(used.contains(shader.name.as_str()), "no plan uses {}", shader.name);
    }
}

/// Functions that several files need: the same text in each.
const SHARED: [&str; 42] = [
    "zero",
    "load_left",
    "load_right",
    "fill_column",
    "fill_right_transposed",
    "add_product",
    "keep",
    "kept",
    "as_factors",
    "sigmoid",
    "qkv_quad",
    "qkv_tile",
    "out_quad",
    "dout_quad",
    "dout_tile",
    "count_strided",
    "value_at",
    "run_of",
    "quotients",
    "chunk_of",
    "lane_of",
    "of_groups",
    "stat_rows",
    "gamma_at",
    "map_of",
    "mul_wide",
    "philox4x32",
    "load_map",
    "add_outer",
    "column_of",
    "exists",
    "other_column",
    "other_scores",
    "pick",
    "pick_matrix",
    "qkv_token",
    "rows_from",
    "scale_strip",
    "scale_tile",
    "token_of",
    "with_column",
    "with_token",
];
/// Functions of one name that differ between files, for they are about a file's own bindings and tiles.
const DIFFERENT: [&str; 20] = [
    "add",
    "add_weighted",
    "in_head",
    "locate",
    "put",
    "put_gradient",
    "store_gradient",
    "store_out",
    "weights",
    "close",
    "dots",
    "dout_strip",
    "load_keys",
    "load_queries",
    "open",
    "places",
    "qkv_strip",
    "store_key_gradient",
    "store_query_gradient",
    "store_strip",
];

/// What differs from those lists: a function of several files that is in neither, that is in the wrong one, or a name of the
/// lists that no two files have.
fn strays(texts: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut strays = Vec::new();
    for (name, texts) in texts.iter().filter(|(_, texts)| texts.len() > 1) {
        let same = texts.iter().all(|text| *text == texts[0]);
        match (SHARED.contains(&name.as_str()), DIFFERENT.contains(&name.as_str())) {
            (true, false) if same => {}
            (false, true) if !same => {}
            (true, _) => strays.push(format!("{name} differs between files")),
            _ => strays.push(format!("{name} is in {} files, the same text: {same}", texts.len())),
        }
    }
    let several = |name: &&&str| texts.get(**name).is_none_or(|texts| texts.len() < 2);
    strays.extend(
        SHARED.iter().chain(&DIFFERENT).filter(several).map(|name| format!("{name} is in no two files")),
    );
    strays
}

#[test]
fn functions_of_one_name_are_the_same_text_or_known_to_differ() {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Shader { source, module, .. } in shaders() {
        for (_, function) in module.functions.iter() {
            let name = function.name.clone().expect("a name");
            let start =
                source.find(&format!("\nfn {name}(")).unwrap_or_else(|| panic!("{name} begins no line"));
            let end = source[start..].find("\n}\n").expect("an end");
            texts.entry(name).or_default().push(source[start..start + end].to_owned());
        }
    }
    assert_eq!(strays(&texts), [""; 0]);
    // The test notices what it is for.
    let mut changed = texts.clone();
    changed.get_mut("sigmoid").unwrap()[0].push(' ');
    changed.remove("qkv_quad");
    changed.insert("silu".into(), vec!["x".into(); 2]);
    assert_eq!(strays(&changed).len(), 3, "{:?}", strays(&changed));
}
