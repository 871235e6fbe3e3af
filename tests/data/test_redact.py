"""Personal data and secrets: every kind between the letters of every script is found, and nothing else is."""

import pytest

from bakeoff.data.clean.redact import redact
from bakeoff.settings import PERSONAL

BETWEEN = {
    "Latin": ("Bitte prüfe das: ", " schon wieder, danke"),
    "Chinese": ("请帮王芳看一下", "为什么没有收到"),
    "Chinese, full-width punctuation": ("请看（", "），谢谢。"),
    "Japanese": ("こちらは", "です。返信してください"),
    "Korean": ("이것은", "입니다 확인해 주세요"),
    "Cyrillic": ("Проверьте", "пожалуйста"),
    "Arabic": ("راجع", "شكرا لك"),
    "Thai": ("ช่วยดู", "ให้หน่อยนะคะ"),
    "Hindi": ("कृपया", "देखें"),
}
VALUES = {
    "email": ["ann.lee@example.com", "k_9+x@mail.example.co.uk", "tanaka@example.co.jp"],
    "iban": ["DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19", "UA213223130000026007233566001"],
    "card": ["4111 1111 1111 1111", "378282246310005", "6212345678901232"],
    "ip": ["203.0.113.77", "2001:db8::8a2e:370:7334"],
    "phone": ["+8613800138000", "+49 30 901820", "+1 415 555 0134", "+66 81 234 5678", "+7 (495) 123-45-67",
              "(415) 555-0134"],
    "id": ["536-22-1234", "11010519491231002X", "850101-1234567", "529.982.247-25", "3-1014-00521-17-7", "131052-308T",
           "811218-9876", "BOXW310820HNERXN09", "12.531.909-2", "12345678Z", "RCCMNL83S18D969H", "295109912611193",
           "2341 2341 2346"],
    "key": [
        "sk-abcdefghijklmnopqrstuvwx12",
        "sk-proj-AbCd1234EfGh5678IjKl90",
        "sk-ant-api03-AbCd1234EfGh5678IjKl",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789ABCDEFG",
        "glpat-abcdefghij0123456789",
        "xoxb-123456789012-AbCdEfGhIjKlMnOp",
        "AKIAIOSFODNN7EXAMPLE",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
        "gsk_abcdefghijklmnopqrstuvwxyz0123",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9mLWl0",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    ],
}  # fmt: skip
ROWS = [(kind, value, script) for kind, values in VALUES.items() for value in values for script in BETWEEN]


@pytest.mark.parametrize("kind, value, script", ROWS, ids=[f"{k}-{s}-{v[:12]!r}" for k, v, s in ROWS])
def test_every_kind_is_found_between_letters_of_every_script_and_their_words_stay(kind, value, script):
    before, after = BETWEEN[script]
    (text,), counts = redact([f"{before}{value}{after}"], PERSONAL)
    assert text == f"{before}[{kind.upper()}_1]{after}" and counts == {kind: 1}


@pytest.mark.parametrize(
    "text, expected",
    [
        # what a label says a number is
        ("我的手机13800138000收不到验证码", "我的手机[PHONE_1]收不到验证码"),
        ("電話番号は03-1234-5678です", "電話番号は[PHONE_1]です"),
        ("電話0312345678まで", "電話[PHONE_1]まで"),
        ("연락처: 02-123-4567 입니다", "연락처: [PHONE_1] 입니다"),
        ("Мой телефон 8 (495) 123-45-67, звоните", "Мой телефон [PHONE_1], звоните"),
        ("тел. 495 123 45 67", "тел. [PHONE_1]"),
        ("هاتف ٠٥٠١٢٣٤٥٦٧ من فضلك", "هاتف [PHONE_1] من فضلك"),
        ("เบอร์ 0812345678 ค่ะ", "เบอร์ [PHONE_1] ค่ะ"),
        ("Mein Telefon: 0171/1234567", "Mein Telefon: [PHONE_1]"),
        ("身份证号E12345678丢了", "身份证号[ID_1]丢了"),
        ("Mein Reisepass C01234567 ist weg", "Mein Reisepass [ID_1] ist weg"),
        ("PESEL 44051401359", "PESEL [ID_1]"),
        ("密码是Abc12345，请改", "密码是[KEY_1]，请改"),
        ("パスワード：hunter22です", "パスワード：[KEY_1]です"),
        ("비밀번호는 qwer1234! 입니다", "비밀번호는 [KEY_1] 입니다"),
        ("Пароль: Секрет123", "Пароль: [KEY_1]"),
        ("كلمة المرور: abc12345", "كلمة المرور: [KEY_1]"),
        ("Authorization: Bearer abcdefghij0123456789_x请看", "Authorization: Bearer [KEY_1]请看"),
        ("用postgres://app:s3cret@db.example.com/x连接", "用postgres://[KEY_1]@db.example.com/x连接"),
        # mobile phones where the letters around them tell the country
        ("打给李先生13912345678就行", "打给李先生[PHONE_1]就行"),
        ("李先生 139-1234-5678", "李先生 [PHONE_1]"),
        ("田中は09012345678です", "田中は[PHONE_1]です"),
        ("김철수는 01012345678 입니다", "김철수는 [PHONE_1] 입니다"),
        ("Позвони: 8 916 123-45-67", "Позвони: [PHONE_1]"),
        # full-width forms
        ("邮箱ｗａｎｇ＠ｅｘａｍｐｌｅ．ｃｏｍ谢谢", "邮箱[EMAIL_1]谢谢"),
        ("電話：０９０－１２３４－５６７８。", "電話：[PHONE_1]。"),
        ("卡号４１１１１１１１１１１１１１１１。", "卡号[CARD_1]。"),
        # addresses in other letters
        ("Пишите на иван@почта.рф сегодня", "Пишите на [EMAIL_1] сегодня"),
        ("Mail zoë@müller.de or ann@example.com—today", "Mail [EMAIL_1] or [EMAIL_2]—today"),
        # national forms
        ("Call 06 12 34 56 78 or 020 7946 0123", "Call [PHONE_1] or [PHONE_2]"),
        ("Ligue (11) 91234-5678 ou 030/1234567", "Ligue [PHONE_1] ou [PHONE_2]"),
        ("+1 415 555 0134 2021 it was", "[PHONE_1] 2021 it was"),
    ],
)  # fmt: skip
def test_labels_forms_and_digits_of_other_languages(text, expected):
    assert redact([text], PERSONAL)[0] == [expected]


def test_one_value_in_two_widths_has_one_placeholder():
    (text,), _ = redact(["ann@example.com 或 ａｎｎ＠ｅｘａｍｐｌｅ．ｃｏｍ"], PERSONAL)
    assert text == "[EMAIL_1] 或 [EMAIL_1]"


INNOCENT = [
    "2021年到2022年的收入是12,345,678元，比2020年多12.5%。",
    "订单号13800138000已经发货，金额13800138000元。",
    "注文番号090123456789は2021-03-04に発送しました。",
    "주문번호 01012345678 은 2021년 3월 4일에 왔습니다.",
    "版本1.2.3.4和バージョン10.0.0.1の違い",
    "Версия 2.10.11.4 вышла 04.03.2021 в 12:34:56.",
    "สั่งซื้อปี ๒๕๖๔ จำนวน 1,203.5 บาท",
    "الإصدار 1.2.3.4 صدر عام ٢٠٢١",
    "ISBN 978-3-16-148410-0，第12页，第3章",
    "The plan reaches +100 000 000 users; sales were 1 234 567 890 in 2021.",
    "Dates: 01-02-2021, 01.02.2021, 04/03/2021 12:30, 2021-03-04T12:34:56Z.",
    "Order no. 012-3456789-0123456, EIN 04-1234567, part 0123-456-789.",
    "Sales will reach 12 345 678 by 2030; cards 1234-5678-9012 and 4000 2000 3000.",
    "Trace 3f2a9c1e-8b7d-4c6e-a5f4-0123456789ab, commit 0123456789abcdef0123456789abcdef01234567.",
    "Timestamps 1700000000, 1700000000000 and 20210304123456.",
    "微信群@所有人，价格@100元，邮箱在哪里@？",
    "密码是什么？令牌：无。密钥长度是多少？",
    "The token limit is 4096; the secret of success? Keys: task-oriented, risk-adjusted.",
    "Qwen3-235B-A22B, gpt-4o-2024-08-06, RTX4090, ISO9001, FY22 results",
    "std::vector a::b, 12:34:56, MAC 00:1a:2b:3c:4d:5e",
    "Pi is 3.14159265358979, 0.0123456789 and 1e-10.",
]  # fmt: skip


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_personal_stays(text):
    assert redact([text], PERSONAL) == ([text], {})
