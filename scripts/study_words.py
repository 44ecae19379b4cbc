"""The words of the study's tasks: nouns for their first letters, adjectives that praise or blame."""

# Common nouns in lower case, most letters about equally often: no letter is a good guess.
NOUNS = """
acorn actor album alarm alley almond amber anchor angel angle ankle answer antler apple apricot apron arch archer
arena armor arrow artist ash attic aunt autumn avenue axle
baby bacon badge bakery ball balloon bamboo banana banner barn barrel basin basket bath battle beach bead beam bean
bear beaver bell belt bench berry bicycle bird blanket blossom board boat bone
cabin cabbage cable cactus cage cake calendar camel camera candle canoe canyon captain card carpet carrot cart castle
cat cave ceiling cellar chain chair chalk cheese cherry
dagger daisy dance dancer dawn deck deer delta dentist desert desk dessert dew diamond diary dinner dish ditch doctor
dog doll dolphin donkey door dough dove dragon drawer dress drum duck dust
eagle ear earth easel east echo edge eel egg elbow elephant elevator elk elm ember emerald emperor empire engine
engineer entrance envelope eraser escape evening exit eye eyebrow
fabric face factory fairy falcon farm farmer feast feather fence fern ferry festival fiddle field fig film finger fire
fish flag flame flock floor flower flute fog forest fork fountain fox frame frog fruit
galaxy gallery game garage garden garlic gate gem ghost giant ginger giraffe glacier glass globe glove glue goat gold
goose gown grain grape grass gravel grove guest guide guitar gull
hail hair hall hammer hammock hand handle harbor harp harvest hat hawk hay heart hedge heel helmet hen herb hero
highway hill hinge hive hockey honey hood hook horn horse hotel house hunter hut
ice icicle idea idol igloo image inch income infant ink inn insect instrument invention iris iron island ivory ivy
jacket jade jaguar jail jam jar jaw jazz jeans jelly jet jewel job jockey joint joke journal journey judge juice
jungle jury
kangaroo kayak keeper kennel kernel kettle key keyboard kick kid kidney king kingdom kiosk kiss kitchen kite kitten
kiwi knee knife knight knob knot koala
label lace ladder lady lagoon lake lamb lamp lantern lark laundry lava lawn lawyer leaf leather lemon lens leopard
letter library lid lily lime lion lip lizard lobster lock log lotus lumber lunch
machine magnet maid mailbox mango map maple marble market mask mat meadow meal medal melon merchant metal milk mill
miner mint mirror mist mitten monk monkey moon morning moss motor mountain mouse muffin museum mushroom music
nail name napkin nature neck needle neighbor nephew nest net nickel niece night noise noodle noon north nose note
notebook novel number nurse nut nylon
oak oar oasis oatmeal oats object ocean octopus office officer oil olive omelet onion opera orange orbit orchard
orchid organ ostrich otter ounce oven owl owner ox oyster
package paddle page paint palace palm pan pancake panda paper parade parcel parent park parrot passenger path peach
peacock pear pearl pebble pen pencil penguin pepper piano picture pie pig pigeon
quail quality quarrel quarry quart quarter quartz queen quest question queue quill quilt quince quiver quiz quota
rabbit raccoon radar radio radish raft rail rain rainbow raisin ranch raven recipe reef ribbon rice rifle ring river
road robe robin robot rock rocket roof room rooster root rope rose ruby rug ruler
sack saddle sail sailor salad salmon salt sand sandal sauce saucer scale scarf school scissors sea seal seat seed
shadow shark sheep shelf shell ship shirt shoe shop shore shovel silk silver sister
table tablet tail tailor tank tape target tea teacher team teapot temple tent thimble thread throne thumb thunder
ticket tiger tile timber toast toe tomato tooth tower town toy tractor train tray
umbrella umpire uncle unicorn uniform union unit universe university urn user usher utensil
vacation valley valve van vanilla vase vault vegetable veil vein velvet vessel vest veteran victim victory video
village vine vinegar violet violin virus visitor voice volcano vote voyage vulture
waffle wagon waist waiter walnut walrus warrior wasp watch water wave wax weather wedding week west whale wheat wheel
whistle widow wife willow wind window wine wing winter wizard wolf woman wood wool word worker worm
yacht yak yard yarn year yeast yell yolk youth yogurt
zebra zero zinc zipper zone zoo
""".split()

# What a reviewer says; no word that only fits one kind of thing.
PRAISE = """
admirable amazing appealing astonishing awesome beautiful brilliant captivating charming cheerful classy clever
comforting compelling dazzling delightful elegant enchanting engaging enjoyable excellent exceptional exciting
exquisite extraordinary fabulous fantastic fascinating fine flawless fresh fun glorious good gorgeous graceful great
gripping heavenly impressive incredible inspiring interesting inviting lovable lovely magical magnificent marvelous
masterful memorable nice outstanding perfect phenomenal pleasant pleasing polished refreshing remarkable rewarding
satisfying sensational solid spectacular splendid stellar stunning sublime super superb superior terrific thoughtful
thrilling touching unforgettable uplifting wonderful worthwhile
""".split()
BLAME = """
abominable abysmal annoying appalling atrocious awful bad bland bleak boring careless clumsy confusing crude
deplorable depressing dire disappointing disastrous disgraceful disgusting dismal dreadful dreary dull embarrassing
exhausting faulty feeble flawed forgettable foul frustrating ghastly gloomy grim gross hideous hopeless horrendous
horrible horrid inferior infuriating insulting irritating lame lifeless lousy mediocre messy miserable nasty
obnoxious painful pathetic pointless poor repulsive ridiculous rotten rude shabby shameful shoddy sloppy
tasteless tedious terrible tiresome ugly unbearable uninspired unpleasant useless vile woeful wooden worthless wretched
""".split()
THINGS = """
book concert dinner exhibition film game hotel lecture lunch meal movie museum novel party performance play podcast
restaurant series service shop show song story tour trip
""".split()
NAMES = """
Anna Ben Carla Daniel Emma Felix Grace Hugo Ines Jack Lena Mark Nina Oscar Paula Rosa Sam Tara Victor Yusuf
""".split()
