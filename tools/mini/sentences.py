"""Sentences on a character, with what they say of it: as the world writes them and as people might type them."""

from character import HAIR_HUES, HAIR_STYLES, MOODS, character
from world import FEELINGS, LOOKS, caption_of

LABELS = {"mood": MOODS, "look": tuple(LOOKS), "hair_color": ("", *HAIR_HUES), "hair_style": ("", *HAIR_STYLES),
          "glasses": ("", "glasses"), "hat": ("", "hat"), "earrings": ("", "earrings")}  # "": not said

# Adjectives, fitting "a ... woman" and "is ..."; adverbs; what a face or body does. Sorrow has no face of its own: neutral.
ADJECTIVES = {
    "neutral": "calm,neutral,relaxed,serious,quiet,plain,composed,indifferent,peaceful,blank,still,sober,bored,tired,sad,gloomy,emotionless,thoughtful,stern,unmoved",
    "happy": "happy,cheerful,smiling,glad,joyful,joyous,friendly,delighted,laughing,merry,jolly,pleased,excited,content,radiant,beaming,grinning,amused,"
             "ecstatic,elated,overjoyed,sunny,thrilled",
    "angry": "angry,furious,mad,annoyed,grumpy,cross,frowning,upset,enraged,irritated,raging,irate,livid,hostile,outraged,scowling,bitter,fuming,grim,"
             "aggressive,displeased",
    "surprised": "surprised,astonished,amazed,startled,shocked,wide-eyed,stunned,astounded,dumbfounded,speechless,flabbergasted,baffled,gasping,awestruck,bewildered"}
ADVERBS = {"neutral": "calmly,quietly,seriously,soberly,neutrally,peacefully,plainly", "happy": "happily,cheerfully,joyfully,gladly,merrily,with a smile,with joy",
           "angry": "angrily,furiously,grumpily,madly,with a frown,in anger,in a rage,with fury",
           "surprised": "in surprise,in shock,with amazement,in astonishment,in disbelief,with surprise"}
PHRASES = {"neutral": "showing no emotion,with a neutral expression,with a calm face,keeping a straight face,without a smile,with a blank look",
           "happy": "with a big smile,full of joy,in a good mood,with a happy face,smiling broadly,having fun,with a smile on the face",
           "angry": "full of anger,in a bad mood,with an angry face,with knitted brows,losing patience,with a frown on the face,shouting with rage",
           "surprised": "with wide eyes,with raised eyebrows,taken aback,with a surprised face,with a look of surprise,unable to believe it,caught off guard"}
LOOK_WORDS = {"at the camera": "at the camera,straight ahead,at the viewer,at us,at you,into the camera,forward,at the audience,into the lens,at the lens,"
                               "directly at me,at the screen",
              "to the left": "to the left,left,leftwards,to its left side,to her left,to his left,off to the left,toward the left,over to the left side,"
                             "at something on the left",
              "to the right": "to the right,right,rightwards,to its right side,to her right,to his right,off to the right,toward the right,"
                              "over to the right side,at something on the right"}
LOOKING = "looking,gazing,glancing,staring,facing,peering,turned,eyes turned,with eyes".split(",")
LOOKS_VERB = "looks,gazes,glances,stares,faces,peers,turns,is looking,keeps looking".split(",")
WHO = ("woman,man,girl,boy,person,lady,guy,cartoon character,teacher,cook,host,doctor,singer,reporter,student,grandmother,grandfather,child,chef,actor,neighbor,"
       "speaker,young woman,old man,fellow,mother,father,presenter,scientist,streamer,friend,soldier,nurse,player,toon,figure,character").split(",")
DOING = ("talks,speaks,is talking,explains a recipe,tells a story,says hello,is speaking into a microphone,reads the news,gives a speech,sings,chats,greets everyone,"
         "answers a question,teaches a lesson,describes the weather,recites a poem,introduces a product,is presenting,argues,whispers,says a few words").split(",")
PLACES = ("in a kitchen,at home,in a studio,in front of a wall,outside,in the park,in a red shirt,on a stage,in an office,by the window,at night,in soft light,"
          "in a garden,"
          "in a blue coat,on the beach,in front of a green screen,in a classroom,on a rainy day,against a white background").split(",")
WORN = {"glasses": "glasses,spectacles,eyeglasses,round glasses".split(","), "hat": "a hat,a cap,a big hat".split(","),
        "earrings": "earrings,an earring,gold earrings".split(",")}
WORDS = ("the,of,and,to,in,for,on,that,this,was,are,have,not,they,from,one,all,would,there,their,what,out,about,who,get,which,when,make,can,like,time,just,know,"
         "take,people,into,year,your,good,some,could,them,"
         "see,other,than,then,now,only,come,over,think,also,back,after,use,two,how,our,work,first,well,way,even,new,want,because,any,these,day,most,small,large,"
         "red,house,water,city,car,table,hand,music,street").split(",")
FILLER = ("The light is soft and warm.", "A portrait in a simple style.", "High quality, sharp and clean.", "Behind stands a shelf full of books.",
          "It is a sunny day.", "Flat colors.",
          "The shirt is plain.", "The background has one color.", "Close-up shot.", "The mouth moves with every word.", "Cinematic lighting, film grain, 4k.",
          "The camera does not move.",
          "There is music in the room.", "Trees and clouds are seen through the window.", "Drawn by hand with thick lines.", "The video is short.",
          "Nobody else is there.", "Natural head movements.")
FORMS = ("{A} {who} {doing} {place}, {looking} {look}.", "{a} {who} {doing} {adv}{place}, {looking} {look}",
         "{who1} {doing} {place}. {She} {looks} {look} and seems {adj}.", "{who1}, {adj}, {looks} {look}.",
         "{looking} {look}, {who1} {doing} and is {adj}.", "{adj}, {looking} {look}", "{who1} {doing} {place} and feels {adj}; {looking} {look}.",
         "{she} is {adj} and {looks} {look}",
         "{who1} {looks} {look} {adv}", "{She} {doing} {phrase}, {looking} {look}.", "{phrase}, {who1} {doing}, {looking} {look}.",
         "{who1} {looks} {look}, {phrase}", "portrait of {a} {who}, {looking} {look}")
NO_LOOK = ("{a} {who} {doing} {place}.", "{who1} {doing} {place} and is {adj}.", "{she} is {adj}", "{adj}", "{a} {who}", "{who1} {doing} {adv}",
           "{who1} {phrase}", "{She} {doing} {phrase}.", "{adj} expression")
NO_MOOD = ("{who1} {doing} {place}, {looking} {look}.", "{looking} {look}, {who1} {doing}.", "{looks} {look}", "{she} {looks} {look}",
           "{who1} {looks} {look} and {doing}")
NEITHER = ("{who1} {doing} {place}.", "{who1} {doing}.", "{who1}", "{who1} {place}", "")
HELD_FORMS = ("{looking} {look} while {she} {doing}: {a} {who}.", "Show me {a} {who} {place} who {looks} {look}",
              "the {who} is {adj} today, {doing} and {looks} {look}",
              "video of {who1} who {doing} {phrase} and {looks} {look}", "{adj} mood, {place}, {who1} {looking} {look}")  # only to be judged by


def pick(rng, options):
    options = options.split(",") if isinstance(options, str) else options
    return str(options[rng.integers(len(options))])


def dressed(rng, who):
    """-> the person with some of hair and what is worn; the labels of what is said."""
    said, text = {}, who
    if rng.random() < 0.25:
        said["hair_color"], style = pick(rng, list(HAIR_HUES)), pick(rng, HAIR_STYLES)
        said["hair_style"] = style if style != "bald" and rng.random() < 0.6 else ""
        text += f" with {' '.join(filter(None, (said['hair_style'], said['hair_color'])))} hair"
    elif rng.random() < 0.05:
        said["hair_style"], text = "bald", "bald " + who
    worn = [name for name in WORN if rng.random() < 0.12]
    if worn:
        text += pick(rng, (" wearing ", " with ", " in ")) + " and ".join(pick(rng, WORN[name]) for name in worn)
    return text, dict(said, **{name: name for name in worn})


def article(text):
    return ("an " if text[:1] in "aeiou" else "a ") + text


def paraphrase(rng, held_out=False):
    """-> text, labels; what a person might type. Unsaid: at the camera, neutral."""
    look, mood = str(rng.choice(list(LOOKS), p=(0.3, 0.35, 0.35))), pick(rng, MOODS)
    kind = 0 if held_out else rng.choice(4, p=(0.5, 0.25, 0.15, 0.1))
    form = pick(rng, (HELD_FORMS if held_out else FORMS, NO_LOOK, NO_MOOD, NEITHER)[kind])
    said_mood = any(slot in form.lower() for slot in ("{a}", "{adj}", "{adv}", "{phrase}"))
    mood, look = mood if said_mood else "neutral", look if "{look}" in form else "at the camera"
    who, labels = dressed(rng, pick(rng, WHO))
    adjective, she = pick(rng, ADJECTIVES[mood]), pick(rng, ("she", "he", "it"))
    slots = dict(a=article(adjective), A=article(adjective).capitalize(), adj=adjective, adv=pick(rng, ADVERBS[mood]) + " ", phrase=pick(rng, PHRASES[mood]), who=who,
                 who1=pick(rng, (article(who), "the " + who, she)) if "hair_color" not in labels else article(who),
                 doing=pick(rng, DOING), place=pick(rng, PLACES) if rng.random() < 0.7 else "",
                 looking=pick(rng, LOOKING), looks=pick(rng, LOOKS_VERB), look=pick(rng, LOOK_WORDS[look]), she=she, She=she.capitalize())
    text = form.format(**slots)
    labels = {k: v for k, v in labels.items() if who in text}
    text = framed(rng, " ".join(text.replace(" ,", ",").replace(" .", ".").split()))
    return text, dict(labels, mood=mood, look=look)


def filler(rng):
    """A sentence that says nothing of the character; one in four is no sentence at all."""
    return pick(rng, FILLER) if rng.random() < 0.75 else " ".join(pick(rng, WORDS) for _ in range(rng.integers(2, 8))) + "."


def framed(rng, text):
    """Some filler before and behind, letters as people type them."""
    if rng.random() < 0.3:
        before, behind = rng.integers(0, 3), rng.integers(0, 6)
        text = " ".join([*(filler(rng) for _ in range(before)), text, *(filler(rng) for _ in range(behind))])
    case = rng.random()
    return text.lower() if case < 0.15 else text[:1].upper() + text[1:] if case < 0.6 else text


def caption(rng):
    """-> text, labels; as the world writes them."""
    c, mood, look = character(rng), pick(rng, MOODS), pick(rng, list(LOOKS))
    text = caption_of(rng, c, mood, look)
    hair = "bald" if " bald " in text else c["hair"] if " hair " in text else ""
    labels = dict(hair_style=hair, hair_color=c["hair_name"] if hair not in ("", "bald") else "", **{name: name if word in text else "" for name, word in
                  (("glasses", " glasses"), ("hat", " a hat"), ("earrings", " earrings"))})
    return text, dict(labels, mood=mood, look=look)


def mood_and_look(caption):
    """Of a caption as the world writes them."""
    return next(mood for mood, word in FEELINGS.items() if word in caption), next(look for look in LOOKS if look in caption)


def paraphrase_of(rng, mood, look):
    """-> another sentence that says this mood and this look."""
    while True:
        text, labels = paraphrase(rng)
        if (labels["mood"], labels["look"]) == (mood, look):
            return text
