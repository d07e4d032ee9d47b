//! Whether this process was started as one of several.

use super::Processes;
use duet::{Error, Result};

/// What a launcher's environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// The launcher.
    pub by: &'static str,
    /// How many processes it started.
    pub count: usize,
}

/// Variables by which launchers tell how many processes they start: Open MPI's, those of MPICH, Intel MPI and Slurm's PMI, and of a
/// step of Slurm itself.
const COUNTS: [(&str, &str); 4] = [
    ("mpirun", "OMPI_COMM_WORLD_SIZE"),
    ("mpiexec", "PMI_SIZE"),
    ("mpirun", "MV2_COMM_WORLD_SIZE"),
    ("srun", "SLURM_STEP_NUM_TASKS"),
];

impl Launched {
    /// What this process's environment says.
    pub fn here() -> Option<Launched> {
        Launched::of(|name| std::env::var(name).ok())
    }

    /// What the variables say; `None`: this process was started by itself, or is the only one.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
        let count = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        let told = COUNTS.iter().filter_map(|(by, name)| Some(Launched { by, count: count(name)? }));
        told.max_by_key(|launched| launched.count).filter(|launched| launched.count > 1)
    }
}

/// This process among those that were started with it.
///
/// # Errors
/// [`Error::Config`] where there are others and this program cannot speak with them: each would do all of the work and write the
/// same files.
pub fn join() -> Result<Processes> {
    match Launched::here() {
        None => Ok(Processes::alone()),
        Some(launched) => join_launched(&launched),
    }
}

#[cfg(feature = "mpi")]
fn join_launched(launched: &Launched) -> Result<Processes> {
    let processes = super::mpi::join()?;
    if processes.count() != launched.count {
        let Launched { by, count } = launched;
        let known = processes.count();
        let detail = format!(
            "{by} started {count} processes, but MPI knows of {known}: start them by the mpirun of the MPI that this program was \
             built with, or by srun --mpi=pmix"
        );
        return Err(Error::config("mpi", detail));
    }
    Ok(processes)
}

#[cfg(not(feature = "mpi"))]
fn join_launched(launched: &Launched) -> Result<Processes> {
    let Launched { by, count } = launched;
    let detail = format!(
        "{by} started {count} processes, but this program was built without MPI, so each would do all of the work and write \
         the same files: build it by `cargo build --release --workspace --features duet-trainer/mpi --bin duet`, or start it once"
    );
    Err(Error::config("mpi", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_known_by_their_variables() {
        let of = |given: &[(&str, &str)]| {
            let find = |name: &str| given.iter().find(|(known, _)| *known == name);
            Launched::of(|name| find(name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "1")]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "many")]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "4")]), Some(Launched { by: "mpirun", count: 4 }));
        assert_eq!(of(&[("PMI_SIZE", "2")]).unwrap().by, "mpiexec");
        // A script of Slurm that starts one mpirun is a step of one task.
        assert_eq!(of(&[("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_NTASKS", "8")]), None);
        assert_eq!(of(&[("SLURM_STEP_NUM_TASKS", "8")]).unwrap().by, "srun");
    }
}
