//! The published data sets there are: where their files lie, how to tell that they are the right ones, and what their authors ask
//! for. Checksums are those that the authors publish or, where these publish none, that two well-kept libraries check
//! (TensorFlow Datasets, torchvision).

use super::Checksum::{self, Md5, Sha256};
use duet::{Error, Result};
use std::path::Path;

/// A data set.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// What commands call it, and the readers' name of its format.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Its authors' page.
    pub page: &'static str,
    /// Under which licence, in a few words.
    pub licence: &'static str,
    /// What to cite.
    pub citation: &'static str,
    /// Where its files are from.
    pub source: Source,
}

/// Where files are from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// From these addresses.
    Files(&'static [File]),
    /// From people's hands alone.
    ByHand(ByHand),
}

/// What may not be downloaded by a program.
#[derive(Clone, Copy, Debug)]
pub struct ByHand {
    /// Why.
    pub why: &'static str,
    /// Which files have to lie in the folder.
    pub layout: &'static str,
}

/// A file.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Its address.
    pub url: &'static str,
    /// Its name in the folder.
    pub name: &'static str,
    /// Its length, where it is known.
    pub bytes: Option<u64>,
    /// Its checksum, where one is known.
    pub checksum: Option<Checksum>,
    /// What to unpack of it; none of what readers read as it is.
    pub archive: Option<Archive>,
}

/// What is in a `.tar.gz` or a `.zip`.
#[derive(Clone, Copy, Debug)]
pub struct Archive {
    /// The folder that it holds.
    pub folder: &'static str,
    /// Bytes that it unpacks to, at most: it is damaged or worse if it holds more.
    pub most_bytes: u64,
}

impl ByHand {
    /// Where people get a set, and where it is to lie.
    pub fn words(&self, set: &Set, folder: &Path) -> String {
        format!(
            "{} {}. Download it by hand from {} and put into {}: {}",
            set.title,
            self.why,
            set.page,
            folder.display(),
            self.layout
        )
    }
}

impl Set {
    /// Bytes to download, where all of them are known.
    pub fn bytes(&self) -> Option<u64> {
        match self.source {
            Source::Files(files) => files.iter().map(|file| file.bytes).sum(),
            Source::ByHand(_) => None,
        }
    }
}

/// A file that is kept as it is.
const fn plain(url: &'static str, name: &'static str, bytes: Option<u64>, checksum: Checksum) -> File {
    File { url, name, bytes, checksum: Some(checksum), archive: None }
}

/// A file that is unpacked.
const fn packed(
    url: &'static str,
    name: &'static str,
    bytes: u64,
    checksum: Checksum,
    folder: &'static str,
    most_bytes: u64,
) -> File {
    let archive = Some(Archive { folder, most_bytes });
    File { url, name, bytes: Some(bytes), checksum: Some(checksum), archive }
}

/// All sets.
pub static SETS: [Set; 8] = [
    Set {
        name: "mnist",
        title: "MNIST",
        page: "http://yann.lecun.com/exdb/mnist/",
        licence: "none stated by the authors' page",
        citation: "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. Proceedings of the IEEE 86(11), 1998",
        // The authors' page no longer gives them; PyTorch's copies have the same checksums.
        source: Source::Files(&[
            plain(
                "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
                "train-images-idx3-ubyte.gz",
                Some(9_912_422),
                Sha256("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            ),
            plain(
                "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",
                "train-labels-idx1-ubyte.gz",
                Some(28_881),
                Sha256("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            ),
            plain(
                "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
                "t10k-images-idx3-ubyte.gz",
                Some(1_648_877),
                Sha256("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            ),
            plain(
                "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
                "t10k-labels-idx1-ubyte.gz",
                Some(4_542),
                Sha256("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
            ),
        ]),
    },
    Set {
        name: "fashion-mnist",
        title: "Fashion-MNIST",
        page: "https://github.com/zalandoresearch/fashion-mnist",
        licence: "MIT (Zalando SE)",
        citation: "Xiao, Rasul, Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms. arXiv:1708.07747, 2017",
        source: Source::Files(&[
            plain(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
                "train-images-idx3-ubyte.gz",
                Some(26_421_880),
                Sha256("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            ),
            plain(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-labels-idx1-ubyte.gz",
                "train-labels-idx1-ubyte.gz",
                Some(29_515),
                Sha256("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            ),
            plain(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
                "t10k-images-idx3-ubyte.gz",
                Some(4_422_102),
                Sha256("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            ),
            plain(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
                "t10k-labels-idx1-ubyte.gz",
                Some(5_148),
                Sha256("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
            ),
        ]),
    },
    Set {
        name: "usps",
        title: "USPS, in LIBSVM's form",
        page: "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps",
        licence: "none stated",
        citation: "Hull: A database for handwritten text recognition research. IEEE Transactions on Pattern Analysis and Machine Intelligence 16(5), 1994",
        source: Source::Files(&[
            plain(
                "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/usps.bz2",
                "usps.bz2",
                None,
                Md5("ec16c51db3855ca6c91edd34d0e9b197"),
            ),
            plain(
                "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/usps.t.bz2",
                "usps.t.bz2",
                Some(1_831_726),
                Md5("8ea070ee2aca1ac39742fdd1ef5ed118"),
            ),
        ]),
    },
    Set {
        name: "svhn",
        title: "SVHN, cropped digits",
        page: "http://ufldl.stanford.edu/housenumbers/",
        licence: "for non-commercial use only",
        citation: "Netzer, Wang, Coates, Bissacco, Wu, Ng: Reading digits in natural images with unsupervised feature learning. NIPS Workshop on Deep Learning and Unsupervised Feature Learning, 2011",
        source: Source::Files(&[
            plain(
                "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
                "train_32x32.mat",
                Some(182_040_794),
                Sha256("435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
            ),
            plain(
                "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
                "test_32x32.mat",
                Some(64_275_384),
                Sha256("cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
            ),
        ]),
    },
    Set {
        name: "cifar10",
        title: "CIFAR-10",
        page: "https://www.cs.toronto.edu/~kriz/cifar.html",
        licence: "none stated; the page asks to cite the report. The pictures are of 80 Million Tiny Images, which its authors have withdrawn",
        citation: "Krizhevsky: Learning multiple layers of features from tiny images. Technical report, University of Toronto, 2009",
        source: Source::Files(&[packed(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "cifar-10-binary.tar.gz",
            170_052_171,
            Sha256("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
            "cifar-10-batches-bin",
            // Six files of 30,730,000 bytes, names and a page.
            185_000_000,
        )]),
    },
    Set {
        name: "cifar100",
        title: "CIFAR-100",
        page: "https://www.cs.toronto.edu/~kriz/cifar.html",
        licence: "none stated; the page asks to cite the report. The pictures are of 80 Million Tiny Images, which its authors have withdrawn",
        citation: "Krizhevsky: Learning multiple layers of features from tiny images. Technical report, University of Toronto, 2009",
        source: Source::Files(&[packed(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "cifar-100-binary.tar.gz",
            168_513_733,
            Sha256("58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),
            "cifar-100-binary",
            // 60,000 records of 3,074 bytes, and names.
            185_000_000,
        )]),
    },
    Set {
        name: "malaria",
        title: "Malaria cell images of the National Library of Medicine",
        page: "https://lhncbc.nlm.nih.gov/LHC-research/LHC-projects/image-processing/malaria-project.html",
        licence: "none stated; published openly, of patients who are not named",
        citation: "Rajaraman et al.: Pre-trained convolutional neural networks as feature extractors toward improved malaria parasite detection in thin blood smear images. PeerJ 6:e4568, 2018",
        source: Source::Files(&[
            plain(
                "https://data.lhncbc.nlm.nih.gov/public/Malaria/patientid_cellmapping_parasitized.csv",
                "patientid_cellmapping_parasitized.csv",
                None,
                Sha256("d0367e513397404e980baee2a641bce9ce329a22e62ea9007962dfca2f8418d3"),
            ),
            plain(
                "https://data.lhncbc.nlm.nih.gov/public/Malaria/patientid_cellmapping_uninfected.csv",
                "patientid_cellmapping_uninfected.csv",
                None,
                Sha256("a8577b21e7154724f4bbd18326218e2c63a99b22ab372b79a7530d36df6dab78"),
            ),
            packed(
                "https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip",
                "cell_images.zip",
                353_452_851,
                Sha256("0a949556b2414159b5100192609805376654c4266d8d187be9b1922fad43c668"),
                "cell_images",
                // Pictures that are packed already; how many bytes they are is not published.
                1_000_000_000,
            ),
        ]),
    },
    Set {
        name: "celeba",
        title: "CelebA, aligned and cropped",
        page: "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        licence: "for non-commercial research alone, by the agreement on its page, which forbids passing it on",
        citation: "Liu, Luo, Wang, Tang: Deep learning face attributes in the wild. ICCV 2015",
        source: Source::ByHand(ByHand {
            why: "is given to those who agree to its terms, so no program downloads it",
            layout: "img_align_celeba/ with the pictures of img_align_celeba.zip (MD5 00d2c5bc6d35e252742224ab0c1e8fcb), \
                     list_attr_celeba.txt (MD5 75e246fa4810816ffd6ee81facbd244c) and list_eval_partition.txt (MD5 \
                     d32c9cbf5e040fd4025c592c306e6668)",
        }),
    },
];

/// The set of a name.
///
/// # Errors
/// [`Error::Config`] listing the names there are.
pub fn named(name: &str) -> Result<&'static Set> {
    SETS.iter().find(|set| set.name == name).ok_or_else(|| {
        let names: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        Error::config("name", format!("there is no {name:?}; there are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataKind;

    #[test]
    fn every_set_is_read_by_a_format_of_its_name_and_every_file_can_be_told() {
        for set in &SETS {
            assert_eq!(DataKind::named(set.name).unwrap().name(), set.name);
            assert!(set.page.starts_with("http") && !set.licence.is_empty() && !set.citation.is_empty());
            let Source::Files(files) = set.source else { continue };
            for file in files {
                let (digits, length) = match file.checksum.unwrap() {
                    Sha256(digits) => (digits, 64),
                    Md5(digits) => (digits, 32),
                };
                assert!(
                    digits.len() == length && digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
                    "{digits}"
                );
                assert_eq!(digits.to_lowercase(), digits);
                assert!(file.url.ends_with(file.name), "{}", file.url);
                let is_archive = [".tar.gz", ".zip"].iter().any(|ending| file.name.ends_with(ending));
                assert_eq!(is_archive, file.archive.is_some(), "{}", file.name);
            }
        }
        assert_eq!(named("svhn").unwrap().bytes(), Some(246_316_178));
        assert_eq!(named("usps").unwrap().bytes(), None);
        assert!(named("mnits").unwrap_err().to_string().contains("mnist, fashion-mnist"));
    }
}
