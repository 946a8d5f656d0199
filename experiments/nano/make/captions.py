"""Captions: good ones, and the faulty ones of the web (file names, boilerplate, other languages)."""

from typing import Final

import numpy as np
from sources import Concept

#: Prompts of the evaluation for names, and for groups of names, as DataComp's template files have them.
NAME_TEMPLATES: Final = ("a photo of a {c}.", "a picture of a {c}", "{c} icon", "clip art of a {c}")
GROUP_TEMPLATES: Final = ("{c} clip art", "free {c} icon", "a picture of some {c}", "{c} stickers")

_GOOD: Final = (
    "a picture of a {}",
    "a photo of a {}",
    "clip art of a {}",
    "{} icon",
    "{} sticker for your phone",
    "a small drawing of a {}",
    "a cute {} illustration",
    "colorful {} on a plain background",
    "an emoji of a {}",
    "the {} symbol in color",
    "a cartoon {} with simple shapes",
    "a simple {} design",
    "vector art of a {}",
    "this is a {}",
    "my favorite {} picture",
    "a {} drawn by an artist",
    "{} graphic for kids",
    "hand drawn {} for a greeting card",
)
#: Good captions that name the group, too; the first {} is the concept.
_GROUPED: Final = (
    "{}, {} clip art",
    "{} - free {} icon",
    "a picture of a {} ({})",
    "{} and other {} stickers",
)
#: Good captions that name only the group.
_GROUP_ONLY: Final = (
    "{} clip art for everyone",
    "free {} icon to download",
    "a picture of some {}",
    "one of our {} stickers",
)
_CATEGORY_WORDS: Final = {
    "Animals & Nature": "nature",
    "Food & Drink": "food",
    "Travel & Places": "travel",
    "Activities": "activity",
    "Objects": "object",
}
#: Plain words for the subcategories of the emoji tables; others keep their own names.
_GROUP_WORDS: Final = {
    "animal mammal": "mammal",
    "animal bird": "bird",
    "animal bug": "insect",
    "animal marine": "sea animal",
    "plant flower": "flower",
    "plant other": "plant",
    "food fruit": "fruit",
    "food vegetable": "vegetable",
    "food prepared": "meal",
    "food asian": "asian food",
    "food sweet": "dessert",
    "transport ground": "vehicle",
    "transport air": "aircraft",
    "place building": "building",
    "place other": "sight",
    "sky & weather": "weather",
    "arts & crafts": "art",
    "book paper": "paper",
    "light & video": "film",
}
_FILE_NAMES: Final = (
    "IMG_{number:04d}.JPG",
    "DSC{number:05d}.jpg",
    "image{number}.png",
    "{number}_original.jpg",
    "untitled-{small}.gif",
    "Screenshot_2019-{month:02d}-{small:02d}.png",
    "{hex}.webp",
    "thumb_{number}_x{small}.jpeg",
    "{dashed}-{number}x{number}.jpg",
    "{dashed}_{small}.png",
    "icon-{dashed}.svg",
)
_BOILERPLATE: Final = (
    "Click to enlarge image",
    "Image may be subject to copyright",
    "Free shipping on all orders over $50",
    "Skip to main content",
    "Sign up for our newsletter and save 10%",
    "Photo by our staff. All rights reserved.",
    "Add to cart - only a few left in stock",
    "No image available for this product",
    "Home | About us | Contact | Privacy policy",
    "Follow us on social media for more updates",
    "Read more: the latest news and stories",
    "Advertisement",
    "Page {small} of {number} - results",
    "Posted by admin on {month}/{small}/2014",
    "Buy now at the best price guaranteed",
    "Share this on your favorite network",
    "Please enable JavaScript to view the comments",
    "Download the app for the best experience",
    "Copyright (c) 20{month:02d} - terms and conditions apply",
    "Related products you may also like",
)
#: Phrases a page in that language would put around the name; {} is the name in that language.
_FOREIGN: Final[dict[str, tuple[str, ...]]] = {
    "de": ("ein Bild von {}", "{} kostenlos herunterladen", "Zeichnung: {}"),
    "es": ("una imagen de {}", "dibujo de {} para niños", "icono de {} gratis"),
    "fr": ("une image de {}", "dessin de {} à imprimer", "icône {} gratuite"),
    "it": ("un'immagine di {}", "disegno di {} da colorare", "icona di {} gratis"),
    "pt": ("uma imagem de {}", "desenho de {} para colorir", "ícone de {} grátis"),
    "id": ("gambar {} lucu", "ikon {} gratis untuk anda", "gambar {} untuk anak"),
    "tr": ("{} resmi", "ücretsiz {} simgesi", "çocuklar için {} çizimi"),
    "ru": ("картинка {}", "рисунок {} для детей", "иконка {} скачать бесплатно"),
    "ar": ("صورة {}", "رسم {} للأطفال", "أيقونة {} مجانية"),
    "fa": ("تصویر {}", "نقاشی {} برای کودکان", "آیکون {} رایگان"),
    "ja": ("{}の画像", "{}の無料イラスト", "かわいい{}のアイコン"),
    "ko": ("{} 이미지", "무료 {} 그림", "귀여운 {} 아이콘"),
    "zh": ("{}图片", "{}卡通插画免费下载", "可爱的{}图标"),
}


def category_word(concept: Concept) -> str:
    """One of five words for the concept's category."""
    return _CATEGORY_WORDS[concept.category]


def group_word(concept: Concept) -> str:
    """A word for the concept's subcategory."""
    return _GROUP_WORDS.get(concept.subcategory, concept.subcategory)


def good(concept: Concept, rng: np.random.Generator) -> str:
    """A caption that says in English what is to be seen."""
    style = rng.random()
    word = category_word(concept) if rng.random() < 0.5 else group_word(concept)
    if style < 0.15:
        caption = _GROUP_ONLY[rng.integers(len(_GROUP_ONLY))].format(word)
    elif style < 0.3:
        caption = _GROUPED[rng.integers(len(_GROUPED))].format(concept.name, word)
    else:
        caption = _GOOD[rng.integers(len(_GOOD))].format(concept.name)
    return caption[0].upper() + caption[1:] if rng.random() < 0.3 else caption


def file_name(concept: Concept, rng: np.random.Generator) -> str:
    """The name of a file; a quarter of the patterns has the concept in it."""
    return _filled(_FILE_NAMES, concept, rng)


def boilerplate(concept: Concept, rng: np.random.Generator) -> str:
    """A line of a web page that says nothing about the image."""
    return _filled(_BOILERPLATE, concept, rng)


def foreign(concept: Concept, rng: np.random.Generator) -> tuple[str, str]:
    """A good caption in another language; returns it and the language's code."""
    code, name = concept.translations[rng.integers(len(concept.translations))]
    phrases = _FOREIGN[code]
    return phrases[rng.integers(len(phrases))].format(name), code


def _filled(templates: tuple[str, ...], concept: Concept, rng: np.random.Generator) -> str:
    return templates[rng.integers(len(templates))].format(
        number=int(rng.integers(100, 9999)),
        small=int(rng.integers(1, 29)),
        month=int(rng.integers(1, 13)),
        hex=f"{int(rng.integers(16**8, 16**9)):x}",
        dashed=concept.name.lower().replace(" ", "-"),
    )
