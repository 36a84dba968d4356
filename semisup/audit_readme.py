"""What the expert reads beside the pictures, in English and Spanish; nothing about models or arms."""

from collections.abc import Sequence

from semisup.audit_sheet import has_numbers, none_word

_ENGLISH = """\
WHAT TO DO

The folder "images" holds {num} pictures. Say of each what you see, by eye and on your own.{enlarged}

1. Open labels.csv with a spreadsheet program (Excel, LibreOffice). Each row is one picture; its code is the
   picture's file name.
2. Under "label" write the class{numbers}. The classes:

{classes}
   If none of them fits, or it is no usable picture, write: {none}
3. Under "unsure" write x where you are not sure. Name a class as well if you lean towards one.
4. "comment" is yours.
5. Save as CSV and send back labels.csv alone. It may be unfinished: rows left empty count as not seen.

Please go from top to bottom and skip none: the order is random, so the first hundred are as good a sample
as all. Leave the column "code" as it is. Do not talk about single pictures with another reader before both
are done. The pictures may be real or made by a program, and may be mixed: that is part of the question.
"""
_SPANISH = """\
QUÉ HACER

La carpeta "images" contiene {num} imágenes. Diga de cada una lo que ve, a simple vista y por su cuenta.
{enlarged}
1. Abra labels.csv con una hoja de cálculo (Excel, LibreOffice). Cada fila es una imagen; su código ("code")
   es el nombre del archivo de la imagen.
2. En "label" escriba la clase{numbers}. Las clases:

{classes}
   Si ninguna corresponde, o la imagen no sirve, escriba: {none}
3. En "unsure" escriba x si no está seguro o segura. Indique también una clase si se inclina por una.
4. "comment" es para sus comentarios.
5. Guarde como CSV y devuelva solo labels.csv. Puede estar incompleto: las filas vacías cuentan como no
   vistas.

Por favor, vaya de arriba abajo sin saltarse ninguna: el orden es al azar, de modo que las cien primeras son
una muestra tan buena como todas. No cambie la columna "code". No comente imágenes concretas con otra persona
que las esté leyendo hasta que ambas hayan terminado. Las imágenes pueden ser reales o hechas por un programa,
y pueden estar mezcladas: eso es parte de la pregunta.
"""


def readme_text(classes: Sequence[str], num: int, export: str, *, has_enlarged: bool) -> str:
    """The instructions in both languages."""
    none = none_word(classes)
    listed = "".join(f"      {line}\n" for line in class_lines(classes))
    by_number = has_numbers(classes)
    english = _ENGLISH.format(
        num=num, classes=listed, none=none,
        enlarged='\n"enlarged" holds the same pictures, larger.' if has_enlarged else "",
        numbers=", by its name or its number" if by_number else ", by its name",
    )  # fmt: skip
    spanish = _SPANISH.format(
        num=num, classes=listed, none="ninguna" if none == "none" and "ninguna" not in classes else none,
        enlarged='"enlarged" contiene las mismas imágenes, más grandes.\n' if has_enlarged else "",
        numbers=", por su nombre o su número" if by_number else ", por su nombre",
    )  # fmt: skip
    return f"{english}\n{'-' * 100}\n\n{spanish}\n{'-' * 100}\n\nexport {export}\n"


def class_lines(classes: Sequence[str]) -> list[str]:
    """One line a class, numbered from 1 where the number may be written instead."""
    return [f"{k + 1} = {name}" for k, name in enumerate(classes)] if has_numbers(classes) else list(classes)


def classes_text(classes: Sequence[str]) -> str:
    """`classes.txt`."""
    return "\n".join([*class_lines(classes), none_word(classes)]) + "\n"
