"""What people write before a number or a secret, in many languages: it tells what a bare number is."""

import re

KEY_NAMES = (
    "password", "passwd", "passphrase", "secret", "token", "_key", "passwort", "kennwort", "mot de passe", "contrasena",
    "senha", "wachtwoord",
    *(f"{word}{gap}key" for word in ("api", "access", "account", "private") for gap in ("", " ", "-")),
)  # fmt: skip
"""What a secret is called, in ASCII and any case..."""
KEY_NAMES_ELSE = (
    "contraseña", "hasło", "mật khẩu", "ароль", "люч", "окен", "密码", "密碼", "密钥", "密鑰", "口令", "令牌",
    "パスワード", "暗証番号", "トークン", "비밀번호", "암호", "토큰", "كلمة المرور", "كلمة السر", "رمز الدخول",
    "รหัสผ่าน", "โทเค็น", "पासवर्ड", "סיסמה",
)  # fmt: skip
"""...and in other letters."""
KEY_LABELS = (
    rf"(?:(?i:{'|'.join(KEY_NAMES)})|{'|'.join(KEY_NAMES_ELSE)})"
    r"[\"']?\s?(?:is\s?|ist\s|es\s|est\s)?(?:[:=]|是|为|為|は|[은는]|คือ|هي)\s?"
)
"""What stands before a secret."""


def _label(latin: str, others: str, gap: str) -> re.Pattern[str]:
    """Words of Latin letters stand alone; those of scripts without spaces may have letters of their own around them."""
    return re.compile(rf"(?:(?<![a-z])(?:{latin})(?![a-z])|{others}){gap}$", re.I)


PHONE_LABEL = _label(
    r"tel|telephone|phone|mobile|cell|fax|whatsapp|call|dial|sms|(?:text|reach|ring) (?:me|us|him|her|them|you)"
    r"|telefon\w*|tel[eé]fono|telefone"
    r"|t[eé]l[eé]phone|portable|celular|m[oó]vil|cellulare|handy|gsm|điện thoại|sđt",
    "电话|電話|手机|手機|座机|联系方式|聯絡|致电|拨打|传真|傳真|携帯|ケータイ|ファ(?:ックス|クス)|連絡先|전화|휴대폰|핸드폰|연락처|팩스|번호로"
    r"|телефон\w*|\bтел\b|\bмоб\b|звон\w*|факс|هاتف|جوال|موبايل|تل[يف]+ون|اتصل|فاكس|تلفن|موبایل|โทร|มือถือ|เบอร์|แฟกซ์"
    "|फ़ोन|फोन|मोबाइल|טלפון|נייד|τηλ",
    r"[^\d+\n]{0,24}",
)
ID_LABEL = _label(
    r"social security (?:number|no)|ssn|national (?:id|insurance)|identity (?:card|number)|id (?:card|number)|passport"
    r"|passeport|reisepass|pasaporte|passaporte|personalausweis\w*|driver'?s? licen[cs]e|tax id|steuer-?id\w*"
    r"|(?-i:DNI|NIE|NIF|CPF|CURP|RUT|PESEL|BSN|NRIC|AMKA|EGN|CNP|JMBG|TCKN|CMND|CCCD)",
    "身份证|身份證|身分證|护照|護照|マイナンバー|個人番号|旅券|パスポート|주민등록번호|주민번호|여권|паспорт|снилс|\\bинн\\b"
    "|الرقم القومي|رقم الهوية|الهوية الوطنية|جواز|บัตรประชาชน|เลขประจำตัว|หนังสือเดินทาง|आधार|पासपोर्ट|תעודת זהות|דרכון",
    r"[^\d\n]{0,20}",
)
OTHER_LABEL = _label(
    r"(?:orders?|invoices?|ref|reference|sku|isbn|part|tracking|ticket|serial|build|user_id)(?: (?:no|nr|number|id))?",
    "订单|訂單|单号|單號|编号|編號|流水|发票|注文|伝票|주문|송장|заказ|счет|счёт|الطلب|فاتورة|คำสั่งซื้อ|ใบแจ้งหนี้",
    r"[^a-z\d\n]{0,4}",
)
"""What another number is called, which only looks like a phone's."""
