"""The 44 items of CLAIM, the checklist for articles on artificial intelligence in medical imaging.

Numbers and subjects are those of the 2024 update, in our own short words; each has a hint for what an author
should write where the software cannot know it.

Source: Tejani et al. 2024, "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update",
Radiology: Artificial Intelligence 6(4):e240300; Mongan, Moy and Kahn 2020, Radiology: Artificial Intelligence
2(2):e200029.
"""

from dataclasses import dataclass

from extract.language import Message


@dataclass(frozen=True)
class ClaimSubject:
    """What one item asks for."""

    number: int
    section: Message
    subject: Message
    hint: Message  # for the author


_TITLE = Message("Title and abstract")
_INTRO = Message("Introduction")
_DESIGN = Message("Methods: design")
_DATA = Message("Methods: data")
_REFERENCE = Message("Methods: reference standard")
_PARTS = Message("Methods: partitions")
_MODEL = Message("Methods: model")
_TRAINING = Message("Methods: training")
_EVALUATION = Message("Methods: evaluation")
_RESULTS = Message("Results")
_DISCUSSION = Message("Discussion")
_OTHER = Message("Other")

SUBJECTS: tuple[ClaimSubject, ...] = (
    ClaimSubject(
        1, _TITLE, Message("title names the kind of AI"), Message("say deep learning, and what it is for")
    ),
    ClaimSubject(
        2,
        _TITLE,
        Message("abstract has a structure"),
        Message("the report's first sentence may stand there as the result"),
    ),
    ClaimSubject(
        3,
        _INTRO,
        Message("clinical background and role"),
        Message("who would use it, for whom, instead of what"),
    ),
    ClaimSubject(
        4, _INTRO, Message("aims and hypotheses"), Message("say what you expected before the first run")
    ),
    ClaimSubject(
        5, _DESIGN, Message("prospective or retrospective"), Message("and when the images were taken")
    ),
    ClaimSubject(
        6,
        _DESIGN,
        Message("goal of the study"),
        Message("feasibility, a model to use, or a comparison of methods"),
    ),
    ClaimSubject(
        7,
        _DATA,
        Message("sources of the data"),
        Message("institutions, dates, licence, approval by an ethics committee"),
    ),
    ClaimSubject(
        8,
        _DATA,
        Message("who was included and excluded"),
        Message("criteria, in the order in which they were applied"),
    ),
    ClaimSubject(
        9, _DATA, Message("preprocessing"), Message("what was done to the images before they came here")
    ),
    ClaimSubject(
        10,
        _DATA,
        Message("how subsets were chosen"),
        Message("crops, slices, views that were taken of each examination"),
    ),
    ClaimSubject(
        11,
        _DATA,
        Message("de-identification"),
        Message("how, and who checked it; file names stand in the archive, too"),
    ),
    ClaimSubject(
        12,
        _DATA,
        Message("missing data"),
        Message("examinations without label or image, and what was done about them"),
    ),
    ClaimSubject(13, _DATA, Message("image acquisition"), Message("scanner, protocol, contrast, resolution")),
    ClaimSubject(
        14,
        _REFERENCE,
        Message("what the reference standard is"),
        Message("how it was decided which class an image has"),
    ),
    ClaimSubject(
        15, _REFERENCE, Message("why this reference standard"), Message("and what is known about its errors")
    ),
    ClaimSubject(
        16, _REFERENCE, Message("who annotated"), Message("how many readers, their training and experience")
    ),
    ClaimSubject(
        17,
        _REFERENCE,
        Message("annotation of the test part"),
        Message("whether it was read more carefully than the rest"),
    ),
    ClaimSubject(
        18,
        _REFERENCE,
        Message("agreement of the readers"),
        Message("with each other and with themselves, in numbers"),
    ),
    ClaimSubject(
        19,
        _PARTS,
        Message("how data were assigned to the parts"),
        Message("if sites or dates decided, say which"),
    ),
    ClaimSubject(
        20,
        _PARTS,
        Message("level at which the parts are disjoint"),
        Message("whether a subject is a patient"),
    ),
    ClaimSubject(
        21,
        _PARTS,
        Message("intended sample size"),
        Message("how it was decided before the study; see `semisup plan`"),
    ),
    ClaimSubject(22, _MODEL, Message("the model in detail"), Message("a reference or figure of the network")),
    ClaimSubject(
        23, _MODEL, Message("software"), Message("operating system, drivers and hardware, where they matter")
    ),
    ClaimSubject(
        24,
        _MODEL,
        Message("initial values of the parameters"),
        Message("where pretrained weights came from, and on what"),
    ),
    ClaimSubject(
        25,
        _TRAINING,
        Message("how it was trained"),
        Message("how the settings were found, and on which data"),
    ),
    ClaimSubject(
        26,
        _TRAINING,
        Message("how the final model was selected"),
        Message("if another model is published, say why"),
    ),
    ClaimSubject(27, _TRAINING, Message("ensembles"), Message("how their members were combined")),
    ClaimSubject(28, _EVALUATION, Message("measures of performance"), Message("why these, for this use")),
    ClaimSubject(
        29,
        _EVALUATION,
        Message("significance and uncertainty"),
        Message("which difference would matter to patients"),
    ),
    ClaimSubject(
        30,
        _EVALUATION,
        Message("robustness"),
        Message("what else was varied: scanner, site, noise, subgroups"),
    ),
    ClaimSubject(
        31,
        _EVALUATION,
        Message("explanations"),
        Message("maps with `classifier explain`, and who looked at them"),
    ),
    ClaimSubject(
        32,
        _EVALUATION,
        Message("evaluation on internal data"),
        Message("whether they are like those it will meet in use"),
    ),
    ClaimSubject(
        33,
        _EVALUATION,
        Message("evaluation on external data"),
        Message("if there is none, say so among the limits"),
    ),
    ClaimSubject(
        34, _EVALUATION, Message("registration"), Message("number and registry, if the study is registered")
    ),
    ClaimSubject(
        35, _RESULTS, Message("numbers included and excluded"), Message("a flow chart, if some were excluded")
    ),
    ClaimSubject(
        36, _RESULTS, Message("who is in each part"), Message("age, sex, severity, scanner, for each part")
    ),
    ClaimSubject(
        37,
        _RESULTS,
        Message("performance with uncertainty"),
        Message("by subgroup, too, where there are enough subjects"),
    ),
    ClaimSubject(
        38,
        _RESULTS,
        Message("estimates and their precision"),
        Message("in the terms of the clinical question"),
    ),
    ClaimSubject(
        39,
        _RESULTS,
        Message("analysis of the errors"),
        Message("look at the images that are always wrong, and show some"),
    ),
    ClaimSubject(
        40,
        _DISCUSSION,
        Message("limits of the study"),
        Message("bias of selection, spectrum, reference standard"),
    ),
    ClaimSubject(
        41,
        _DISCUSSION,
        Message("what it means in practice"),
        Message("intended use, and what must happen before it"),
    ),
    ClaimSubject(42, _OTHER, Message("full protocol"), Message("where the study file can be read")),
    ClaimSubject(
        43,
        _OTHER,
        Message("availability of software, model, data"),
        Message("where, and under which licence"),
    ),
    ClaimSubject(44, _OTHER, Message("funding"), Message("sources, and their role")),
)
SOURCES = "Tejani et al. 2024, Radiology: AI 6(4):e240300; Mongan et al. 2020, Radiology: AI 2(2):e200029"
CITATIONS = (
    "Tejani AS, Klontzas ME, Gatti AA, et al. Checklist for Artificial Intelligence in Medical Imaging "
    "(CLAIM): 2024 Update. Radiology: Artificial Intelligence 2024; 6(4):e240300.",
    "Mongan J, Moy L, Kahn CE Jr. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): A Guide "
    "for Authors and Reviewers. Radiology: Artificial Intelligence 2020; 2(2):e200029.",
)
